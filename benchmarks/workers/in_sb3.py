"""Worker of Stable-Baselines3's side: one process on the CPU, in an environment of its own."""

from __future__ import annotations

import torch
from stable_baselines import serve_algorithms
from stable_baselines3 import DQN, PPO, SAC, TD3

if __name__ == "__main__":
    torch.set_num_threads(1)  # its fastest at these sizes
    serve_algorithms({"ppo": PPO, "dqn": DQN, "sac": SAC, "td3": TD3})
