"""Replay as pure functions: a ring of steps, sampled uniformly or by priority in time that does not depend on its size.

    ring = replay.init(example, capacity=100_000, num_envs=10)
    ring = replay.add(ring, trajectory)
    window, _ = replay.sample(key, ring, batch_size=128, length=3)
    reward, discount, next_obs = replay.n_step(window, 0.99)

`purerl.combinators.with_replay` puts one in front of an agent.
"""

from purerl.replay import priority, sum_tree
from purerl.replay.ring import Ring, add, cut, init, n_step, nbytes, sample, window_count

__all__ = ["Ring", "add", "cut", "init", "n_step", "nbytes", "priority", "sample", "sum_tree", "window_count"]
