"""Worker of the side of sbx, Stable-Baselines3's algorithms in JAX, in an environment of its own."""

from __future__ import annotations

from sbx import DQN, PPO, SAC, TD3
from stable_baselines import serve_algorithms

if __name__ == "__main__":
    serve_algorithms({"ppo": PPO, "dqn": DQN, "sac": SAC, "td3": TD3})
