"""Every agent of `purerl.rlhf` under settings of JAX that change keys, dtypes or broadcasting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import rlhf
from purerl.combinators import with_minibatches
from purerl.hparams import cast
from purerl.loops.actors import Actors, Finished

VOCAB, EOS, PAD, LENGTH = 5, 0, 4, 2
NETWORK = rlhf.transformer(VOCAB, width=8, depth=1, num_heads=2)
POLICIES = {
    "ppo": rlhf.ppo(NETWORK, num_epochs=1, num_minibatches=2),
    "ppo_with_kl_in_the_loss": rlhf.ppo(NETWORK, num_epochs=1, num_minibatches=2, kl_in="loss", kl_kind="k3"),
    "rloo": rlhf.rloo(NETWORK),
    "grpo": rlhf.grpo(NETWORK),
    "gspo": rlhf.gspo(NETWORK),
    "cispo": rlhf.cispo(NETWORK),
}
LEARNERS = {
    "sft": rlhf.sft(NETWORK),
    "reward_model": rlhf.reward_model(NETWORK, "pairwise"),
    "dpo": rlhf.direct_alignment(NETWORK),
    "kto": rlhf.kto(NETWORK),
    "bco": rlhf.bco(NETWORK),
}


def echo(key, tokens, mask):
    return jnp.array([3])


def environment(turns):
    talk = rlhf.Conversation(echo, turns, 1)
    return rlhf.token_env([[1, 2], [4, 3]], lambda tokens, mask: jnp.sum(mask), LENGTH, EOS, PAD, conversation=talk)


def policy_update(agent, turns):
    """One rollout and one update; metrics."""
    env, length = environment(turns), turns * LENGTH + turns - 1
    rollout = rlhf.token_rollout(NETWORK, eos_id=EOS, pad_id=PAD, group_size=2)

    def run(key):
        init_key, rollout_key, update_key = jax.random.split(key, 3)
        example, _ = env.reset(jax.random.key(1))
        state = agent.init(init_key, cast(rlhf.RLHFHparams(kl_target=0.1)), example)
        count = jnp.zeros(4, jnp.int32)
        actors = Actors((), (), (), jnp.zeros(4), count, Finished(jnp.zeros(4), count, count), {})
        _, data = rollout(rollout_key, agent, env, state, actors, length=length)
        return agent.update(update_key, state, data)

    return run


def texts(shape):
    tokens = jnp.ones((*shape, 4), jnp.int32)
    return {"tokens": tokens, "mask": tokens == 1, "completion": (tokens == 1) & (jnp.arange(4) > 1).reshape(
        (1,) * len(shape) + (4,)
    )}  # fmt: skip


def learner_update(name, agent):
    data = texts((3,)) if name in ("sft", "kto", "bco") else texts((3, 2))
    data["ref_log_prob"] = jnp.zeros(data["tokens"].shape[:-1], jnp.float32)
    if name in ("kto", "bco"):
        data |= {f"kl_{column}": x for column, x in data.items()} | {"label": jnp.array([True, False, True])}

    def run(key):
        init_key, update_key = jax.random.split(key)
        state = agent.init(init_key, cast(rlhf.LearnerHparams()), data)
        return agent.update(update_key, state, data)

    return run


NAMES = [*POLICIES, *LEARNERS, "conversation"]


def update(name):
    if name in LEARNERS:
        return learner_update(name, LEARNERS[name])
    return policy_update(POLICIES.get(name, POLICIES["ppo"]), 2 if name == "conversation" else 1)


@pytest.mark.parametrize("name", NAMES)
def test_an_update_is_traced_in_64_bits_without_implicit_broadcasts_between_ranks_and_uses_no_key_twice(name):
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"), jax.debug_key_reuse(True):
        jax.jit(update(name)).trace(jax.random.key(0))


@pytest.mark.parametrize("name", NAMES)
def test_an_update_is_traced_with_keys_of_rbg(name):
    with jax.default_prng_impl("rbg"):
        jax.jit(update(name)).trace(jax.random.key(0))


@pytest.mark.parametrize("name", ["ppo", "grpo", "kto", "conversation"])
def test_an_update_runs_with_keys_of_rbg(name):
    with jax.default_prng_impl("rbg"):
        _, metrics = jax.jit(update(name))(jax.random.key(0))
    assert all(np.isfinite(x) for x in metrics.values())


ALMOST_HALF = 0.5 - 1e-9  # 0.5 in float32


@pytest.mark.parametrize(
    ("loss", "hparams", "message"),
    [
        ("robust", {"label_smoothing": 0.5}, r"label_smoothing = 0\.5 must be below 1/2"),
        ("robust", {"label_smoothing": ALMOST_HALF}, "must be below 1/2"),
        ("robust", {"label_smoothing": jnp.array([0.1, 0.5])}, "must be below 1/2"),
        ("ipo", {"beta": 0.0}, r"beta = 0\.0 must be above 0"),
        ("ipo_average", {"beta": 0.0}, r"beta = 0\.0 must be above 0"),
        ("sppo", {"beta": 0.0}, r"beta = 0\.0 must be above 0"),
    ],
)
def test_losses_refuse_hyperparameters_that_they_divide_by_zero_with(loss, hparams, message):
    agent = with_minibatches(rlhf.direct_alignment(NETWORK, loss), 2)
    data = texts((3, 2)) | {"ref_log_prob": jnp.zeros((3, 2))}
    with pytest.raises(ValueError, match=message):
        purerl.fit(jax.random.key(0), agent, data, rlhf.LearnerHparams(**hparams), num_updates=1)


@pytest.mark.parametrize("centering", [-0.01, float("nan"), float("inf")])
def test_rewards_are_not_pulled_away_from_zero(centering):
    with pytest.raises(ValueError, match=f"centering = {centering} must be a finite number of at least 0"):
        rlhf.reward_model(NETWORK, centering=centering)
