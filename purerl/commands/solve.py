"""`purerl solve`: solve a textbook MDP exactly, print its values and policy, and save its figure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purerl import mdp as mdps
from purerl.commands.options import UsageError, nearest, usage_errors
from purerl.commands.options.solve import Options
from purerl.mdp import MDP, Solution, plots

_GYMNASIUM = {"FrozenLake": "ldru", "FrozenLake8x8": "ldru", "CliffWalking": "urdl", "Taxi": ""}
_TAXI = ("south", "north", "east", "west", "pick up", "drop off")


class Problem(NamedTuple):
    """An MDP and how to show it: as a grid world, as a map of two coordinates, or state by state.

    Attributes:
      layout: rows of a grid world; empty for other MDPs.
      actions: directions of the actions of a grid world.
      exits: characters of cells that end an episode.
      names: names of the actions of other MDPs.
      size: rows and columns of a map; empty if the states are only numbered.
      axes: what the rows and columns of a map count.
      effective: from the best action [S] to the one that it amounts to, such as a stake cut to the capital.
    """

    name: str
    mdp: MDP
    discount: float
    layout: tuple[str, ...] = ()
    actions: str = "urdl"
    exits: str = "+-"
    names: tuple[str, ...] = ()
    size: tuple[int, ...] = ()
    axes: tuple[str, str] = ("row", "column")
    effective: Callable[[np.ndarray], np.ndarray] = lambda action: action


def run(options: Options) -> None:
    """Solve, print, save.

    Raises:
      UsageError: an unknown MDP, or a parameter that does not fit it.
    """
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
    name = options.mdp
    asked = {"noise": options.noise, "living_reward": options.living_reward}
    grid: dict[str, Any] = {option: value for option, value in asked.items() if value is not None}
    if name in _GRIDS:
        make, layout = _GRIDS[name]
        return Problem(name, make(**grid), 0.9, layout)
    if Path(name).is_file():
        layout = tuple(Path(name).read_text().splitlines())
        layout = tuple(line.ljust(max(map(len, layout))) for line in layout)
        return Problem(Path(name).stem, mdps.gridworld(layout, **grid), 0.9, layout)
    known = [*_GRIDS, *_OTHERS, *_GYMNASIUM]
    if name not in known:
        wrong = f"there is neither an MDP nor a file {name!r}" if name else "name an MDP: purerl solve MDP"
        raise UsageError(f"{wrong}; the MDPs are {', '.join(known)}{nearest(name, known)}")
    if grid:
        raise UsageError(f"--{next(iter(grid)).replace('_', '-')} is an option of grid worlds, and {name} is not one")
    return _OTHERS[name]() if name in _OTHERS else _gymnasium(name)


def _gambler() -> Problem:
    capital = np.arange(101)
    stakes = np.minimum(capital, 100 - capital)
    return Problem(
        "gambler", mdps.gamblers_problem(), 1.0, names=tuple(map(str, range(51))),
        effective=lambda action: np.minimum(action + 1, stakes),
    )  # fmt: skip


def _car_rental() -> Problem:
    moves = tuple(f"{i:+d}" if i else "0" for i in range(-5, 6))
    places = ("cars at the first place", "cars at the second place")
    first, second = np.divmod(np.arange(21 * 21), 21)
    return Problem(
        "car_rental", mdps.car_rental(), 0.9, names=moves, size=(21, 21), axes=places,
        effective=lambda action: np.clip(action - 5, -second, first) + 5,
    )  # fmt: skip


# Grid worlds, and what makes one from --noise and --living-reward.
_GRIDS: dict[str, tuple[Callable[..., MDP], tuple[str, ...]]] = {
    "gridworld": (functools.partial(mdps.gridworld, mdps.GRID_3X4), mdps.GRID_3X4),
    "maze": (mdps.maze_2x3, mdps.MAZE_2X3),
}
_OTHERS: dict[str, Callable[[], Problem]] = {
    "gambler": _gambler,
    "car_rental": _car_rental,
    "random_walk": lambda: Problem("random_walk", mdps.random_walk(), 1.0, names=("-",)),
}


def _gymnasium(name: str) -> Problem:
    """One of Gymnasium's tables, whatever version of it is installed."""
    import gymnasium

    env = gymnasium.make(max(known for known in gymnasium.registry if known.startswith(f"{name}-")))
    layout: tuple[str, ...] = ()
    if name.startswith("FrozenLake"):
        layout = tuple("".join(cell.decode() for cell in row) for row in env.unwrapped.desc)  # type: ignore[attr-defined]
    if name == "CliffWalking":
        layout = (" " * 12,) * 3 + ("S" + "C" * 10 + "G",)
    names = _TAXI if name == "Taxi" else ()
    return Problem(name, mdps.from_gymnasium(env), 0.99, layout, _GYMNASIUM[name], exits="HGC", names=names)


def _print(problem: Problem, solution: Solution, history: jax.Array | None, discount: float) -> None:
    num_states, num_actions, _ = problem.mdp.next_state.shape
    print(f"{problem.name}: {num_states} states, {num_actions} actions, discount {discount:g}")
    for sweep in range(0 if history is None else len(history)):
        print(f"\nafter {sweep} sweeps\n{_values(problem, history[sweep])}")  # type: ignore[index]
    print(f"\nvalues\n{_values(problem, solution.value)}\n")
    print(_policy(problem, np.asarray(solution.policy)) + "\n")
    start = float(np.dot(problem.mdp.initial, solution.value))
    bound = float(mdps.error_bound(solution, discount))
    error = f", error at most {bound:.3g} and rounding" if np.isfinite(bound) else ""
    print(f"expected value at the start {start:.7g}")
    print(f"{int(solution.iterations)} iterations, residual {solution.residual:.3g}{error}")


def _values(problem: Problem, value: jax.Array) -> str:
    """Values as a grid, as a map, or eight to a line."""
    texts = [f"{v:8.2f}" for v in value]
    if problem.layout:
        cells = iter(texts)
        return "\n".join("".join(" " * 8 if cell == "#" else next(cells) for cell in row) for row in problem.layout)
    if problem.size:
        return _map(problem, [f"{v:6.1f}" for v in value], every=2)
    return _listed(texts, 8)


def _policy(problem: Problem, policy: np.ndarray) -> str:
    """The best action of every state, as arrows in a grid, as a map, or state by state."""
    best = problem.effective(policy.argmax(axis=1))
    if problem.layout:
        return _arrows(problem, best)
    names = problem.names or tuple(map(str, range(policy.shape[1])))
    if len(names) == 1:
        return "policy\nthere is one action"
    if problem.size:
        return f"policy: {_MEANING[problem.name]}\n{_map(problem, [f'{names[i]:>3}' for i in best])}"
    width = max(map(len, names)) + 1
    meaning = f": {_MEANING[problem.name]}" if problem.name in _MEANING else ""
    return f"policy{meaning}\n{_listed([f'{names[i]:>{width}}' for i in best], 72 // width)}"


_MEANING = {"gambler": "stake for each capital", "car_rental": "cars moved from the first place to the second"}


def _listed(texts: list[str], per_line: int) -> str:
    per_line = 10 if per_line >= 10 else per_line
    return "\n".join(f"{i:6d}:" + "".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line))


def _map(problem: Problem, texts: list[str], every: int = 1) -> str:
    """Rows of a map of two coordinates, the first one counting upwards; of the values, every second row and column."""
    rows, columns = problem.size
    lines = [
        f"{row:4d} " + "".join(texts[row * columns : (row + 1) * columns : every])
        for row in reversed(range(0, rows, every))
    ]
    header = "     " + "".join(f"{column:{len(texts[0])}d}" for column in range(0, columns, every))
    return "\n".join([f"rows: {problem.axes[0]}; columns: {problem.axes[1]}", *lines, header])


def _arrows(problem: Problem, best: np.ndarray) -> str:
    signs = {"u": "↑", "r": "→", "d": "↓", "l": "←"}
    arrows = iter([signs[problem.actions[int(action)]] for action in best])
    lines = []
    for row in problem.layout:
        shown = [(cell, "" if cell == "#" else next(arrows)) for cell in row]
        lines.append(" ".join(cell if cell == "#" or cell in problem.exits else arrow for cell, arrow in shown))
    return "policy\n" + "\n".join(lines)


def _save(problem: Problem, solution: Solution, history: jax.Array | None, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    look: dict[str, Any] = {"actions": problem.actions, "exits": problem.exits}
    value, policy = np.asarray(solution.value), np.asarray(solution.policy)
    if problem.layout:
        figure = plots.plot_gridworld(problem.layout, value, policy, title=problem.name, **look)
    elif problem.size:
        title = f"{problem.name}: {_MEANING[problem.name]}"
        action = problem.effective(policy.argmax(axis=1))
        figure = plots.plot_map(value, action, problem.size, problem.axes, names=problem.names, title=title)
    else:
        offset = 1 if problem.name == "gambler" else 0
        figure = plots.plot_states(value, policy, title=problem.name, action_offset=offset)
    figures = {f"{problem.name}.png": figure}
    if history is not None and problem.layout:
        sweeps = range(len(history))
        figures[f"{problem.name}-sweeps.png"] = plots.plot_value_iteration(problem.layout, history, sweeps, **look)
    for name, each in figures.items():
        each.savefig(output / name)
        print(f"Saved {output / name}.")
