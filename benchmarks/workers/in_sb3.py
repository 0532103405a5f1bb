"""Worker of Stable-Baselines3's side: PPO and DQN on the CPU, one process, in an environment of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from serving import Built, serve
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env

STEPS = 8192  # a run of the others' length would take minutes; its rate does not depend on it


def train(workload: dict[str, Any]) -> Built:
    """`learn` from the start. One thread is its fastest at these sizes."""
    torch.set_num_threads(1)
    make = {"ppo": _ppo, "dqn": _dqn}[workload["algorithm"]]
    steps = max(STEPS, workload["num_envs"] * workload["rollout_length"])

    def run(seed: int) -> float:
        env = make_vec_env(workload["env"], n_envs=workload["num_envs"], seed=seed)
        model = make(workload, env, seed)
        model.learn(steps)
        return float(np.mean([episode["r"] for episode in model.ep_info_buffer or [{"r": np.nan}]]))

    return Built(run, steps)


def _ppo(workload: dict[str, Any], env: Any, seed: int) -> PPO:
    rows = workload["num_envs"] * workload["rollout_length"]
    return PPO(
        "MlpPolicy", env, n_steps=workload["rollout_length"], batch_size=rows // 4, n_epochs=4, learning_rate=2.5e-4,
        ent_coef=0.01, clip_range_vf=0.2, seed=seed, device="cpu",
    )  # fmt: skip


def _dqn(workload: dict[str, Any], env: Any, seed: int) -> DQN:
    return DQN(
        "MlpPolicy", env, buffer_size=workload["capacity"], batch_size=workload["batch_size"], learning_rate=3e-4,
        learning_starts=workload["batch_size"], train_freq=1, gradient_steps=1, policy_kwargs={"net_arch": [120, 84]},
        target_update_interval=200 * workload["num_envs"], seed=seed, device="cpu",
    )  # fmt: skip


if __name__ == "__main__":
    serve({"train": train})
