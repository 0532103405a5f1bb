"""Pictures of solved MDPs: grid worlds with values and arrows, the tables of value iteration, values by state.

The functions return matplotlib figures that belong to no window; save them with `figure.savefig(path)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray | jax.Array

STEPS = {"u": (0, -1), "r": (1, 0), "d": (0, 1), "l": (-1, 0)}  # (x, y), y downwards


def plot_gridworld(
    layout: Sequence[str],
    value: Array,
    policy: Array | None = None,
    *,
    actions: str = "urdl",
    exits: str = "+-",
    title: str = "",
) -> Figure:
    """A grid world with the value of each cell as number and colour, and the policy as arrows.

    Args:
      layout: rows of text as `gridworld` takes them; '#' is a wall, every other cell is a state, row by row.
      value: [S].
      policy: [S, A] probabilities; the size of an arrow is the probability of its action. None: no arrows.
      actions: the direction of each action, a string of the letters u, r, d, l.
      exits: characters of cells that end an episode: framed, and without arrows.
      title: over the picture.

    Returns:
      `matplotlib.figure.Figure`.

    Raises:
      ValueError: `value` or `policy` does not fit the layout.

    Examples:
      >>> from purerl import mdp
      >>> from purerl.mdp import plots
      >>> solution = mdp.value_iteration(mdp.gridworld_3x4(), discount=0.9)
      >>> figure = plots.plot_gridworld(mdp.GRID_3X4, solution.value, solution.policy)
      >>> len(figure.axes)
      1
    """
    figure = _figure(len(layout[0]) * 0.95 + 0.3, len(layout) * 0.95 + 0.5)
    axes = figure.add_subplot()
    _draw(axes, layout, np.asarray(value), policy, actions, exits, float(np.abs(value).max()))
    axes.set_title(title)
    return figure


def plot_value_iteration(
    layout: Sequence[str],
    history: Array,
    sweeps: Sequence[int],
    *,
    policies: Array | None = None,
    actions: str = "urdl",
    exits: str = "+-",
) -> Figure:
    """The value function after chosen sweeps of value iteration, side by side in one colour scale.

    Args:
      layout, actions, exits: as for `plot_gridworld`.
      history: [num_sweeps + 1, S], from `value_iteration_history`.
      sweeps: which rows to show.
      policies: [num_sweeps + 1, S, A], drawn into the tables; None: no arrows.

    Returns:
      `matplotlib.figure.Figure` with at most four tables per row.

    Examples:
      >>> from purerl import mdp
      >>> from purerl.mdp import plots
      >>> history = mdp.value_iteration_history(mdp.gridworld_3x4(), discount=0.9, num_sweeps=3)
      >>> figure = plots.plot_value_iteration(mdp.GRID_3X4, history, sweeps=(0, 1, 3))
      >>> [axes.get_title() for axes in figure.axes]
      ['0 sweeps', '1 sweep', '3 sweeps']
    """
    history = np.asarray(history)
    columns = min(4, len(sweeps))
    rows = -(-len(sweeps) // columns)
    figure = _figure(columns * (len(layout[0]) * 0.8 + 0.3), rows * (len(layout) * 0.8 + 0.5))
    scale = float(np.abs(history[list(sweeps)]).max())
    for i, k in enumerate(sweeps):
        axes = figure.add_subplot(rows, columns, i + 1)
        _draw(axes, layout, history[k], None if policies is None else policies[k], actions, exits, scale)
        axes.set_title(f"{k} sweep" + "s" * (k != 1), fontsize=10)
    return figure


def plot_states(value: Array, policy: Array, *, title: str = "", action_offset: int = 0) -> Figure:
    """Values and likeliest actions by the number of the state, for MDPs that are not grids.

    Args:
      value: [S].
      policy: [S, A] probabilities.
      title: over the picture.
      action_offset: added to the number of the action, such as 1 where action 0 stakes 1.

    Returns:
      `matplotlib.figure.Figure`.

    Examples:
      >>> from purerl import mdp
      >>> from purerl.mdp import plots
      >>> solution = mdp.value_iteration(mdp.random_walk(), discount=1.0)
      >>> figure = plots.plot_states(solution.value, solution.policy)
      >>> len(figure.axes)
      2
    """
    figure = _figure(7.5, 5)
    top, bottom = figure.subplots(2, 1, sharex=True)
    states = np.arange(len(value))
    top.plot(states, value, color="#1f4e79")
    bottom.step(states, np.argmax(policy, axis=1) + action_offset, where="mid", color="#a0522d")
    top.set(title=title, ylabel="value")
    bottom.set(xlabel="state", ylabel="best action")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_map(
    value: Array,
    action: Array,
    size: Sequence[int],
    axes_labels: Sequence[str],
    *,
    names: Sequence[str],
    title: str = "",
) -> Figure:
    """Actions and values of an MDP whose states are two coordinates, as two maps side by side.

    Args:
      value: [S], S = rows · columns, row by row.
      action: [S] integers.
      size: numbers of rows and columns.
      axes_labels: what the rows and the columns count.
      names: name of each action, in order; their colours run from red over white to blue.
      title: above the map of actions.

    Returns:
      `matplotlib.figure.Figure`.

    Raises:
      ValueError: `value` does not have rows · columns elements.
    """
    value = np.asarray(value)
    if value.shape != (size[0] * size[1],):
        raise ValueError(f"value must have shape ({size[0] * size[1]},), one number per state, got {value.shape}")
    chosen = np.asarray(action).reshape(size)
    figure = _figure(11, 5)
    left, right = figure.subplots(1, 2)
    last = len(names) - 1
    left.imshow(chosen, origin="lower", cmap="RdBu", vmin=-0.3, vmax=last + 0.3)
    for (row, column), index in np.ndenumerate(chosen):
        color = "white" if abs(index - last / 2) > last / 3 else "black"
        left.text(column, row, names[index], ha="center", va="center", fontsize=6, color=color)
    shown = right.imshow(value.reshape(size), origin="lower", cmap="viridis")
    figure.colorbar(shown, ax=right, pad=0.02)
    for axes in (left, right):
        axes.set(ylabel=axes_labels[0], xlabel=axes_labels[1])
        axes.locator_params(integer=True)
    left.set_title(title, fontsize=10)
    right.set_title("value", fontsize=10)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(max(width, 3.2), max(height, 1.8)), dpi=120, layout="constrained")


def _draw(
    axes: Axes, layout: Sequence[str], value: Array, policy: Array | None, actions: str, exits: str, scale: float
) -> None:
    cells = [(x, y) for y, row in enumerate(layout) for x, cell in enumerate(row) if cell != "#"]
    if value.shape != (len(cells),):
        raise ValueError(
            f"value must have shape ({len(cells)},), one number per cell that is not a wall, got {value.shape}"
        )
    if policy is not None and np.shape(policy) != (len(cells), len(actions)):
        raise ValueError(f"policy must have shape ({len(cells)}, {len(actions)}), got {np.shape(policy)}")
    width, height = len(layout[0]), len(layout)
    axes.set(xlim=(-0.02, width + 0.02), ylim=(height + 0.02, -0.02), aspect="equal", xticks=[], yticks=[])
    axes.set_facecolor("#555555")
    axes.spines[:].set_visible(False)
    for state, (x, y) in enumerate(cells):
        is_exit = layout[y][x] in exits
        _cell(axes, x, y, float(value[state]), scale, is_exit)
        if policy is not None and not is_exit:
            _arrows(axes, x, y, np.asarray(policy)[state], actions)


def _cell(axes: Axes, x: int, y: int, value: float, scale: float, is_exit: bool) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    shade = 0.5 + 0.42 * value / scale if scale > 0 and np.isfinite(value) else 0.5
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colormaps["RdBu"](shade), edgecolor="white", linewidth=1.5))
    if is_exit:
        axes.add_patch(Rectangle((x + 0.07, y + 0.07), 0.86, 0.86, fill=False, edgecolor="black", linewidth=1))
    text = f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    axes.text(x + 0.5, y + 0.5, text.replace("-0.00", "0.00"), ha="center", va="center", fontsize=9, zorder=3)


def _arrows(axes: Axes, x: int, y: int, probabilities: np.ndarray, actions: str) -> None:
    """Arrow heads around the number, whose size is the probability of their action."""
    for probability, action in zip(probabilities, actions):
        if probability < 0.01:
            continue
        dx, dy = STEPS[action]
        tip = (x + 0.5 + dx * 0.46, y + 0.5 + dy * 0.46)
        base = (tip[0] - dx * 0.17 * probability, tip[1] - dy * 0.17 * probability)
        side = (dy * 0.15 * probability, dx * 0.15 * probability)
        corners = [tip, (base[0] + side[0], base[1] + side[1]), (base[0] - side[0], base[1] - side[1])]
        axes.fill(*zip(*corners), color="#222222", zorder=2, linewidth=0)
