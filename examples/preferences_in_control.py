"""Swing up a pendulum from 700 answers to "which of these two is better?", one in ten of them random."""

import jax

from purerl.experiments import pendulum


def say(ended):
    print(f"{ended.num_labels} answers: true reward {ended.true_reward:.2f} per step", flush=True)


found = pendulum.run(jax.random.key(0), pendulum.task(), say=say)
print(f"learned and true reward correlate by {found.result.rounds.correlation[-1]:.2f}")
print(f"return {found.greedy_return:.0f}; of the policy that was labelled {found.explorer_return:.0f}")
