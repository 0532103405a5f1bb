"""The algorithms of Stable-Baselines3 and of sbx, its edition in JAX, which take the same arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving import Built, serve
from stable_baselines3.common.env_util import make_vec_env

# A run of the others' length would take minutes; the rate does not depend on it.
STEPS = {"ppo": 8192, "dqn": 8192, "sac": 2048, "td3": 2048}


def serve_algorithms(classes: Mapping[str, Any]) -> None:
    """Serve training with these classes, by purerl's names.

    A model is made once and every run lets it learn on: making one compiles it anew in sbx, and the warm-up of its
    replay, without gradient steps, is not counted in its favour.
    """

    def train(workload: dict[str, Any]) -> Built:
        algorithm = workload["algorithm"]
        steps = max(STEPS[algorithm], workload["num_envs"] * workload["rollout_length"])
        env = make_vec_env(workload["env"], n_envs=workload["num_envs"], seed=0)
        model = classes[algorithm]("MlpPolicy", env, **SETTINGS[algorithm](workload), seed=0)
        return Built(lambda _: model.learn(steps, reset_num_timesteps=False), steps)

    serve({"train": train})


def _ppo(workload: dict[str, Any]) -> dict[str, Any]:
    rows = workload["num_envs"] * workload["rollout_length"]
    return {
        "n_steps": workload["rollout_length"], "batch_size": rows // 4, "n_epochs": 4, "learning_rate": 2.5e-4,
        "ent_coef": 0.01, "clip_range_vf": 0.2,
    }  # fmt: skip


def _replay(workload: dict[str, Any]) -> dict[str, Any]:
    return {
        "buffer_size": workload["capacity"], "batch_size": workload["batch_size"], "learning_rate": 3e-4,
        "learning_starts": workload["batch_size"], "train_freq": 1, "gradient_steps": 1,
    }  # fmt: skip


def _dqn(workload: dict[str, Any]) -> dict[str, Any]:
    target = {"target_update_interval": 200 * workload["num_envs"]}
    return _replay(workload) | target | {"policy_kwargs": {"net_arch": [120, 84]}}


def _continuous(workload: dict[str, Any]) -> dict[str, Any]:
    return _replay(workload) | {"gamma": 0.99, "tau": 0.01, "policy_kwargs": {"net_arch": [64, 64]}}


SETTINGS = {"ppo": _ppo, "dqn": _dqn, "sac": _continuous, "td3": _continuous}
