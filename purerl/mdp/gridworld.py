"""Grid worlds from rows of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from purerl.mdp.types import MDP, check_scalar, checked

EXITS = {"+": 1.0, "-": -1.0}
MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])  # up, right, down, left

GRID_3X4 = ("   +", " # -", "S   ")
MAZE_2X3 = ("S +", "  -")


def gridworld(
    layout: Sequence[str],
    noise: Any = 0.2,
    living_reward: Any = 0.0,
    exits: Mapping[str, float] = EXITS,
) -> MDP:
    """A grid world: moves slip to the sides, walls are bumped into, exits pay and end.

    States are the cells that are no wall, numbered row by row. Actions are 0 up, 1 right, 2 down, 3 left. A move goes
    where it is meant to with probability 1 − noise and to each of its two sides with noise / 2; the agent stays where
    it bumps into a wall or the border. From an exit every action pays the exit's reward and ends the episode; every
    other step pays `living_reward`.

    Args:
      layout: rows of text, all of one length: ' ' free, '#' wall, 'S' start, and the characters of `exits`. Episodes
        start in an 'S', all alike; without one, in any free cell.
      noise: scalar in [0, 1]. It and `living_reward` may be traced, so grids can be vmapped over both.
      living_reward: scalar.
      exits: reward of each character that marks an exit; by default '+' pays 1 and '-' pays −1.

    Returns:
      `MDP` with outcome lists [S, 4, 3]: as meant, to the left of it, to the right of it.

    Raises:
      ValueError: the rows are not of one length, hold an unknown character or no free cell; noise is not in [0, 1];
        an exit's character is one of ' ', '#', 'S', or its reward or the living reward is not finite.

    Source: Russell & Norvig, Artificial Intelligence, section "Sequential decision problems" (the 4 x 3 world).
    """
    cells = _cells(layout, exits)
    is_exit = np.array([c in exits for c in cells.values()])
    payoff = np.array([exits.get(c, 0.0) for c in cells.values()])
    start = np.array([c == "S" for c in cells.values()])
    first = start if start.any() else ~is_exit

    number = {cell: s for s, cell in enumerate(cells)}
    here = np.arange(len(cells))
    target = np.array([[number.get((r + dr, c + dc), s) for dr, dc in MOVES] for (r, c), s in number.items()])
    target = np.where(is_exit[:, None], here[:, None], target)
    next_state = np.stack([target, np.roll(target, 1, axis=1), np.roll(target, -1, axis=1)], axis=-1)

    noise = check_scalar("noise", noise, 0, 1)
    living_reward = check_scalar("living_reward", living_reward, -1e30, 1e30)
    shape = next_state.shape
    column = is_exit[:, None, None]
    return checked(
        next_state,
        jnp.broadcast_to(jnp.stack([1 - noise, noise / 2, noise / 2]), shape),
        jnp.broadcast_to(jnp.where(column, payoff[:, None, None], living_reward), shape),
        np.broadcast_to(column, shape),
        first / first.sum(),
    )


def gridworld_3x4(noise: Any = 0.2, living_reward: Any = 0.0) -> MDP:
    """The 3 x 4 world of Russell & Norvig: one wall, exits of +1 and −1 in the last column. 11 states."""
    return gridworld(GRID_3X4, noise, living_reward)


def maze_2x3(noise: Any = 0.0, living_reward: Any = -1.0) -> MDP:
    """A maze of 2 x 3 cells: start top left, a goal of +10 top right, a trap of −10 below it. 6 states."""
    return gridworld(MAZE_2X3, noise, living_reward, exits={"+": 10.0, "-": -10.0})


def _cells(layout: Sequence[str], exits: Mapping[str, float]) -> dict[tuple[int, int], str]:
    """The character of every cell that is no wall, by (row, column), row by row."""
    if isinstance(layout, str) or not layout or len({len(row) for row in layout}) != 1:
        raise ValueError(f"layout must be rows of text of one length, got {layout!r}")
    for character, reward in exits.items():
        if len(character) != 1 or character in " #S" or not np.isfinite(reward):
            raise ValueError(
                f"exits[{character!r}] = {reward}: an exit is one character, not ' ', '#' or 'S', and pays a number"
            )
    cells = {(r, c): character for r, row in enumerate(layout) for c, character in enumerate(row) if character != "#"}
    for (r, c), character in cells.items():
        if character not in " S" and character not in exits:
            raise ValueError(f"layout row {r}, column {c}: unknown character {character!r}")
    if all(character in exits for character in cells.values()):
        raise ValueError("layout has no free cell to start from")
    return cells
