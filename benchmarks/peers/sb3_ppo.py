"""Environment steps a second of Stable-Baselines3's PPO on CartPole, as many processes as there are cores.

    python benchmarks/peers/sb3_ppo.py     with stable-baselines3 and torch installed

Settings as in `purerl sweep`: 4 environments x 128 steps, 4 epochs, minibatches of 128, two towers of 64 x 64. A search
with Optuna trains its trials one after the other in each process; what Optuna itself takes is left out.
"""

import json
import multiprocessing
import os
import time

NUM_STEPS = 20_480


def train(seed: int) -> float:
    """Seconds of one training run, without what comes before its first step."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    env = make_vec_env("CartPole-v1", n_envs=4, seed=seed)
    model = PPO(
        "MlpPolicy", env, n_steps=128, batch_size=128, n_epochs=4, learning_rate=2.5e-4, seed=seed, device="cpu"
    )
    model.learn(512)
    begun = time.perf_counter()
    model.learn(NUM_STEPS)
    return time.perf_counter() - begun


def main() -> None:
    processes = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        seconds = pool.map(train, range(processes))
    print(json.dumps({"processes": processes, "steps_per_second": sum(NUM_STEPS / each for each in seconds)}))


if __name__ == "__main__":
    main()
