"""The textbook's figures, reproduced by the library: `python examples/tabular_figures.py --output docs/images`.

value_iteration.png   the 3 x 4 grid world after 0, 1, 2, 3, 5, 10 and 100 sweeps
random_walk.png       error of TD(λ) on the 19-state random walk (Sutton & Barto, figures 12.6, 12.8), and of n-step TD
                      (figure 7.2, with all steps of an episode made at its end)
bandits.png           regret and optimal actions of six rules on the ten-armed testbed (chapter 2)
cliff.png             SARSA and Q-learning while they learn on the cliff (example 6.6)
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import purerl
from purerl import envs
from purerl import mdp as mdps
from purerl.agents.tabular.bandit import BanditHparams, bandit
from purerl.agents.tabular.td_control import TDControlHparams, q_learning, sarsa
from purerl.agents.tabular.td_prediction import TDHparams, td, td_lambda
from purerl.mdp import plots

KEY = jax.random.key(0)
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def value_iteration() -> Figure:
    """Tables of value iteration, each with the policy that is greedy to it."""
    grid, sweeps = mdps.gridworld_3x4(living_reward=-0.03), (0, 1, 2, 3, 5, 10, 20, 100)
    history = mdps.value_iteration_history(grid, 0.9, 100)
    q = jax.vmap(lambda value: mdps.bellman_backup(grid, value, 0.9))(history)
    policies = jax.nn.one_hot(q.argmax(-1), 4)
    return plots.plot_value_iteration(mdps.GRID_3X4, history, sweeps, policies=policies)


def random_walk(num_seeds: int = 50, num_episodes: int = 10) -> Figure:
    """Root mean square error over the states and the first ten episodes, by step size, and by n or λ."""
    env = envs.from_mdp(mdps.random_walk(19), max_steps=2000)
    panels: dict[str, list[tuple[str, purerl.Agent, float]]] = {
        "n-step TD, a step after each episode": [(f"n = {n}", td(env, n=n), 0.0) for n in (1, 2, 4, 8, 16, 32)]
    }
    for traces, title in (("accumulating", "TD(λ), accumulating traces"), ("dutch", "true online TD(λ)")):
        agent = td_lambda(env, traces=traces)
        panels[title] = [(f"λ = {decay:g}", agent, decay) for decay in (0.0, 0.4, 0.8, 0.9, 0.95, 0.99)]
    alphas, keys = jnp.linspace(0.05, 1.0, 14), jax.random.split(KEY, num_seeds)
    figure, found = _axes(*["step size α"] * len(panels))
    for axes, (title, lines) in zip(found, panels.items()):
        for (label, agent, decay), color in zip(lines, COLORS):
            curve = _errors(env, agent, keys, alphas, jnp.float32(decay), num_episodes)
            axes.plot(alphas, curve, color=color, label=label)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set(ylim=(0.2, 0.6))
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower right", columnspacing=1, borderaxespad=0)
    found[0].set(ylabel=f"RMS error, first {num_episodes} episodes")
    return figure


@functools.partial(jax.jit, static_argnums=(0, 1, 5))
def _errors(
    env: purerl.types.Env, agent: purerl.Agent, keys: jax.Array, alphas: jax.Array, decay: jax.Array, num_episodes: int
) -> jax.Array:
    """Error of a prediction method on the random walk by step size, a mean over seeds and episodes."""
    exact = jnp.linspace(-0.9, 0.9, 19)
    sizes = {"num_updates": 1, "num_envs": 1, "rollout_length": 400, "rollout": purerl.loops.rollout_episodes}

    def error(key: jax.Array, alpha: jax.Array) -> jax.Array:
        hparams = TDHparams(alpha, jnp.float32(0), jnp.float32(1), decay, jnp.float32(0))

        def episode(state: purerl.types.State, i: jax.Array) -> tuple[purerl.types.State, jax.Array]:
            state, _ = purerl.train(jax.random.fold_in(key, i), agent, env, hparams, state=state, **sizes)
            return state, jnp.sqrt(jnp.mean((state.value - exact) ** 2))

        state = agent.init(key, hparams, jnp.int32(0), 1)
        return jax.lax.scan(episode, state, jnp.arange(num_episodes))[1].mean()

    return jax.vmap(jax.vmap(error, (0, None)), (None, 0))(keys, alphas).mean(1)


def bandits(num_testbeds: int = 1000) -> Figure:
    """Cumulative regret, and fraction of testbeds in which the best arm is pulled."""
    rules = {
        "ε-greedy, 0.1": ("epsilon_greedy", BanditHparams(epsilon=0.1)),
        "ε-greedy, 0.01": ("epsilon_greedy", BanditHparams(epsilon=0.01)),
        "UCB, c = 2": ("ucb", BanditHparams(exploration=2.0)),
        "softmax, τ = 0.2": ("softmax", BanditHparams(temperature=0.2)),
        "gradient, α = 0.1": ("gradient", BanditHparams(step_size=0.1)),
        "Thompson": ("thompson_gaussian", BanditHparams()),
    }
    env = envs.bandit_testbed()
    figure, (left, right) = _axes("step", "step")
    for (label, (rule, hparams)), color in zip(rules.items(), COLORS):
        agent = bandit(env, rule=rule)
        metrics = _train_many(agent, env, hparams, 1000, num_testbeds)
        left.plot(np.cumsum(metrics["env/regret"].mean(0)), color=color, label=label)
        right.plot(100 * metrics["env/optimal"].mean(0), color=color, linewidth=0.8)
    left.set(ylabel="cumulative regret")
    right.set(ylabel="% optimal actions", ylim=(0, 100))
    left.legend(frameon=False, fontsize=8)
    return figure


def cliff(num_seeds: int = 100, num_episodes: int = 500) -> Figure:
    """Returns while learning, ε = 0.1, a mean over seeds and ten episodes."""
    world = mdps.from_gymnasium("CliffWalking-v1")
    env, hparams = envs.from_mdp(world, max_steps=10_000), TDControlHparams(0.5, discount=1.0, epsilon=0.1)
    figure, (axes,) = _axes("episode")
    for agent, label, color in ((sarsa(env), "SARSA", COLORS[0]), (q_learning(env), "Q-learning", COLORS[1])):
        metrics = _train_many(agent, env, hparams, 70 * num_episodes, num_seeds)
        returns = [x[np.isfinite(x)][:num_episodes] for x in np.asarray(metrics["episode_return"])]
        mean = np.mean(returns, axis=0).reshape(-1, 10).mean(1)
        axes.plot(np.arange(5, num_episodes, 10), mean, color=color, label=label)
    axes.set(ylim=(-100, 0), ylabel="return of the episode")
    axes.legend(frameon=False, fontsize=9)
    return figure


def _train_many(
    agent: purerl.Agent, env: purerl.Env, hparams: purerl.types.Hparams, num_steps: int, num_seeds: int
) -> purerl.types.Metrics:
    """Metrics [num_seeds, num_steps] of learners that update after every step."""

    def run(key: jax.Array) -> purerl.types.Metrics:
        return purerl.train(key, agent, env, hparams, num_updates=num_steps, num_envs=1, rollout_length=1)[1]

    return jax.jit(jax.vmap(run))(jax.random.split(KEY, num_seeds))


def _axes(*labels: str) -> tuple[Figure, list]:
    figure = Figure(figsize=(4.6 * len(labels), 3.2), dpi=100, layout="constrained")
    found = list(figure.subplots(1, len(labels), squeeze=False)[0])
    for axes, label in zip(found, labels):
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, found


def main() -> None:
    makers = {f.__name__: f for f in (value_iteration, random_walk, bandits, cliff)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=makers, default=list(makers))
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        makers[name]().savefig(options.output / f"{name}.png")
        print(f"saved {options.output / name}.png", flush=True)


if __name__ == "__main__":
    main()
