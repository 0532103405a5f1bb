"""NaN and infinity in the rewards of some trials of a search: what the others end in, and what is said of these.

    python tests/faults/nan.py

Two searches at the same width, which differ only in the trials that meet a bad reward in every episode of training.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl import sweep
from purerl.hparams import get_params
from purerl.types import Box, Discrete, Env, EnvStep


class Fault(NamedTuple):
    """The step of an episode whose reward is NaN, or infinite if `kind` is 1; -1: none."""

    at: int = -1
    kind: float = 0.0


def reset(key, env_params=None):
    return jnp.zeros(2), jnp.int32(0)


def step(key, state, action, env_params=None):
    reward = jnp.where(state == env_params.at, jnp.where(env_params.kind > 0, jnp.inf, jnp.nan), 1 + 0.1 * action)
    obs = jnp.stack([state / 8, jax.random.uniform(key)])
    return EnvStep(obs, state + 1, jnp.float32(reward), state >= 7, jnp.bool_(False))


ENV = Env(reset, step, Box(-jnp.inf, jnp.inf, (2,)), Discrete(2))
AGENT = purerl.ppo(purerl.networks.actor_critic(ENV, (4,)), num_epochs=1, num_minibatches=1)
SIZES = {"num_trials": 8, "num_seeds": 2, "num_updates": 12, "num_envs": 2, "rollout_length": 8, "keep": 8}


def search(steps):
    space = {"learning_rate": sweep.log_uniform(1e-3, 1e-2)}
    space |= {"env.at": sweep.choice(steps), "env.kind": sweep.choice([0.0, 1.0])}
    return sweep.search(
        jax.random.key(0), AGENT, ENV, purerl.PPOHparams(), space, eval_episodes=2, eval_max_steps=20,
        env_params=Fault(), num_chunks=6, **SIZES,
    )  # fmt: skip


def main():
    faulty, whole = search([-1, 5]), search([-1, -1])
    bad = np.asarray(faulty.values("env.at")) == 5
    assert 0 < bad.sum() < bad.size
    for trial in np.flatnonzero(~bad):
        np.testing.assert_array_equal(faulty.returns[trial], whole.returns[trial])
        np.testing.assert_array_equal(faulty.curves[trial], whole.curves[trial])
    compared = 0
    for member, state in zip(faulty.kept, faulty.states):
        trial = int(faulty.member_index.decode(member)[0])
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(get_params(state)))
        (same,) = np.nonzero(whole.kept == member)
        if not bad[trial] and same.size:
            jax.tree.map(np.testing.assert_array_equal, state, whole.states[same[0]])
            compared += 1
    assert compared
    assert not np.isfinite(faulty.curves[bad]).any()
    assert (faulty.skipped[bad] == SIZES["num_updates"]).all()  # there is a bad reward in every update
    assert (faulty.skipped_after[bad] == 0).all()
    assert not faulty.skipped[~bad].any()
    with tempfile.TemporaryDirectory() as folder:
        faulty.save(folder)
        print(Path(folder, "trials.csv").read_text())
    print(f"{bad.sum()} trials met bad rewards: their parameters are finite, and no training return of theirs is")
    print(f"{(~bad).sum()} others: returns and curves equal bit for bit, and the states of {compared} agents")


if __name__ == "__main__":
    sys.exit(main())
