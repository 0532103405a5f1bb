"""`purerl solve`: solve a textbook MDP exactly, print it, and save its picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tyro

from purerl.commands.options import UsageError, usage_errors

Method = Literal["value_iteration", "policy_iteration", "modified_policy_iteration"]
_GYMNASIUM = {"FrozenLake": "ldru", "FrozenLake8x8": "ldru", "CliffWalking": "urdl", "Taxi": ""}
_OWN = ("gridworld", "maze", "gambler", "car_rental", "random_walk")


@dataclasses.dataclass(frozen=True)
class Options:
    """Solve a finite MDP exactly by dynamic programming, print the solution and save its picture."""

    mdp: tyro.conf.Positional[str]
    """gridworld, maze, FrozenLake, FrozenLake8x8, CliffWalking, Taxi, gambler, car_rental, random_walk, or a file of
    text with a grid world: ' ' free, '#' wall, 'S' start, '+' and '-' exits."""

    discount: float | None = None
    """Discount; by default 1 for gambler and random_walk, 0.99 for Gymnasium's, 0.9 otherwise."""

    method: Method = "value_iteration"
    """Which solver."""

    noise: float | None = None
    """Grid worlds: probability of slipping to a side; by default 0.2, in the maze 0."""

    living_reward: float | None = None
    """Grid worlds: reward of every step that does not end the episode; by default 0."""

    sweeps: int = 0
    """Show the values after the first so many sweeps of value iteration, too."""

    tolerance: float = 1e-8
    """Stop when no value changes by more; policy iteration stops by itself."""

    output: Path | None = None
    """Directory for the pictures <mdp>.png and <mdp>-sweeps.png; by default none are saved."""


class Problem(NamedTuple):
    """An MDP and how to show it: as a grid with these directions of actions, or, with an empty layout, by state."""

    name: str
    mdp: Any
    discount: float
    layout: tuple[str, ...] = ()
    actions: str = "urdl"
    exits: str = "+-"
    action_offset: int = 0


def run(options: Options) -> None:
    """Solve, print, save."""
    from purerl import mdp as mdps

    if options.sweeps < 0:
        raise UsageError("--sweeps must not be negative")
    with usage_errors():
        problem = _problem(options)
        discount = problem.discount if options.discount is None else options.discount
        stop = {} if options.method == "policy_iteration" else {"tolerance": options.tolerance}
        solution = getattr(mdps, options.method)(problem.mdp, discount, **stop)
    history = mdps.value_iteration_history(problem.mdp, discount, options.sweeps) if options.sweeps else None
    _print(problem, solution, history, discount)
    if options.output is not None:
        _save(problem, solution, history, options.output)


def _problem(options: Options) -> Problem:
    from purerl import mdp as mdps

    name = options.mdp
    asked = {"noise": options.noise, "living_reward": options.living_reward}
    grid: dict[str, Any] = {option: value for option, value in asked.items() if value is not None}
    if name == "gridworld":
        return Problem(name, mdps.gridworld(mdps.GRID_3X4, **grid), 0.9, mdps.GRID_3X4)
    if name == "maze":
        return Problem(name, mdps.maze_2x3(**grid), 0.9, mdps.MAZE_2X3)
    if name == "gambler":
        return Problem(name, mdps.gamblers_problem(), 1.0, action_offset=1)
    if name == "car_rental":
        return Problem(name, mdps.car_rental(), 0.9, action_offset=-5)
    if name == "random_walk":
        return Problem(name, mdps.random_walk(), 1.0)
    if name in _GYMNASIUM:
        return _gymnasium(name)
    if Path(name).is_file():
        layout = tuple(line.rstrip("\n") for line in Path(name).read_text().splitlines())
        layout = tuple(line.ljust(max(map(len, layout))) for line in layout)
        return Problem(Path(name).stem, mdps.gridworld(layout, **grid), 0.9, layout)
    raise UsageError(f"no MDP {name!r} and no file of that name; there are {', '.join([*_OWN, *_GYMNASIUM])}")


def _gymnasium(name: str) -> Problem:
    """One of Gymnasium's tables, whatever version of it is installed."""
    import gymnasium

    from purerl import mdp as mdps

    env = gymnasium.make(max(known for known in gymnasium.registry if known.startswith(f"{name}-")))
    layout: tuple[str, ...] = ()
    if name.startswith("FrozenLake"):
        layout = tuple("".join(cell.decode() for cell in row) for row in env.unwrapped.desc)  # type: ignore[attr-defined]
    if name == "CliffWalking":
        layout = (" " * 12,) * 3 + ("S" + "C" * 10 + "G",)
    return Problem(name, mdps.from_gymnasium(env), 0.99, layout, _GYMNASIUM[name], exits="HGC")


def _print(problem: Problem, solution: Any, history: Any, discount: float) -> None:
    import numpy as np

    from purerl import mdp as mdps

    num_states, num_actions, _ = problem.mdp.next_state.shape
    print(f"{problem.name}: {num_states} states, {num_actions} actions, discount {discount:g}")
    for sweep in range(0 if history is None else len(history)):
        print(f"\nafter {sweep} sweeps\n{_table(problem, history[sweep])}")
    print(f"\nsolution\n{_table(problem, solution.value)}\n")
    if problem.layout:
        print(_arrows(problem, solution.policy) + "\n")
    start = float(np.dot(problem.mdp.initial, solution.value))
    bound = float(mdps.error_bound(solution, discount))
    print(
        f"value of the start {start:.7g}; {int(solution.iterations)} iterations, residual {solution.residual:.3g}",
        end="",
    )
    print(f", error at most {bound:.3g} and rounding" if np.isfinite(bound) else "")


def _table(problem: Problem, value: Any) -> str:
    """Values as a grid, or ten to a line."""
    texts = iter([f"{v:8.2f}" for v in value])
    if problem.layout:
        return "\n".join("".join(" " * 8 if cell == "#" else next(texts) for cell in row) for row in problem.layout)
    listed = list(texts)
    return "\n".join(f"{i:6d}:" + "".join(listed[i : i + 10]) for i in range(0, len(listed), 10))


def _arrows(problem: Problem, policy: Any) -> str:
    signs = {"u": "↑", "r": "→", "d": "↓", "l": "←"}
    best = iter([signs[problem.actions[int(row.argmax())]] for row in policy])
    lines = []
    for row in problem.layout:
        shown = [(cell, "" if cell == "#" else next(best)) for cell in row]
        lines.append(" ".join(cell if cell == "#" or cell in problem.exits else arrow for cell, arrow in shown))
    return "\n".join(lines)


def _save(problem: Problem, solution: Any, history: Any, output: Path) -> None:
    from purerl.mdp import plots

    output.mkdir(parents=True, exist_ok=True)
    look: dict[str, Any] = {"actions": problem.actions, "exits": problem.exits}
    if problem.layout:
        figure = plots.plot_gridworld(problem.layout, solution.value, solution.policy, title=problem.name, **look)
    else:
        offset = problem.action_offset
        figure = plots.plot_states(solution.value, solution.policy, title=problem.name, action_offset=offset)
    figures = {f"{problem.name}.png": figure}
    if history is not None and problem.layout:
        sweeps = range(len(history))
        figures[f"{problem.name}-sweeps.png"] = plots.plot_value_iteration(problem.layout, history, sweeps, **look)
    for name, picture in figures.items():
        picture.savefig(output / name)
        print(f"saved {output / name}")
