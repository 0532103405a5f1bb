"""Grid worlds from rows of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from purerl.mdp.types import MDP, check_scalar, checked
from purerl.types import Scalar

EXITS = {"+": 1.0, "-": -1.0}
MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])  # up, right, down, left

GRID_3X4 = ("   +", " # -", "S   ")
MAZE_2X3 = ("S +", "  -")

Noise = Scalar | tuple[Scalar, Scalar]


def gridworld(
    layout: Sequence[str],
    noise: Noise = 0.2,
    living_reward: Scalar = 0.0,
    exits: Mapping[str, float] = EXITS,
    pay_on_arrival: bool = False,
) -> MDP:
    """A grid world: moves slip to the sides, walls and borders stop them, exits pay and end the episode.

    States are the cells that are not walls, numbered row by row. Actions are 0 up, 1 right, 2 down, 3 left. A move goes
    in its direction with probability 1 − left − right, to the left of it with probability left, and to the right of it
    with probability right. A wall or the border leaves the agent where it is. Every action taken in an exit pays the
    exit's reward and ends the episode; every other step pays `living_reward`.

    Args:
      layout: rows of text, all of one length: ' ' free, '#' wall, 'S' start, and the characters of `exits`. Episodes
        start in an 'S', each with the same probability; without one, in any free cell.
      noise: the pair (left, right) of probabilities, or a scalar in [0, 1] of which each side has half. It and
        `living_reward` may be traced, so grids can be vmapped over both.
      living_reward: scalar.
      exits: reward of each character that marks an exit; by default '+' pays 1 and '-' pays −1.
      pay_on_arrival: an exit pays, in place of `living_reward`, and ends the episode on the step that enters it. The
        exits themselves are then never acted in and have the value 0.

    Returns:
      `MDP` with outcome lists [S, 4, 3]: in the direction of the move, to the left of it, to the right of it.

    Raises:
      ValueError: the rows are not of one length, hold an unknown character or no free cell; noise is not a scalar or a
        pair, or not in [0, 1]; an exit's character is one of ' ', '#', 'S', or its reward or the living reward is not
        finite.

    Source: Russell & Norvig, Artificial Intelligence, section "Sequential decision problems" (the 4 x 3 world).

    Examples:
      >>> from purerl import mdp
      >>> grid = mdp.gridworld(["S +"], noise=(0.5, 0.0))
      >>> print(grid.next_state[0, 1], grid.probability[0, 1])  # half of the moves to the right slip up, to the border
      [1 0 0] [0.5 0.5 0. ]
    """
    cells = _cells(layout, exits)
    is_exit = np.array([character in exits for character in cells.values()])
    payoff = np.array([exits.get(character, 0.0) for character in cells.values()])
    next_state = _next_states(cells, is_exit)
    left, right = _slips(noise)
    living_reward = check_scalar("living_reward", living_reward, -1e30, 1e30)
    if pay_on_arrival:
        terminated = is_exit[next_state]  # [S, 4, 3], true in an exit too, which moves to itself
        arrival = jnp.where(terminated, payoff[next_state], living_reward)
        reward = jnp.where(is_exit[:, None, None], 0.0, arrival)
    else:
        terminated = np.broadcast_to(is_exit[:, None, None], next_state.shape)
        reward = jnp.where(terminated, payoff[:, None, None], living_reward)
    start = np.array([character == "S" for character in cells.values()])
    first = start if start.any() else ~is_exit
    probability = jnp.stack([1 - (left + right), left, right])
    return checked(next_state, jnp.broadcast_to(probability, next_state.shape), reward, terminated, first / first.sum())


def gridworld_3x4(noise: Noise = 0.2, living_reward: Scalar = 0.0) -> MDP:
    """The 3 x 4 world of Russell & Norvig: one wall, exits of +1 and −1 in the last column. 11 states.

    Examples:
      >>> from purerl import mdp
      >>> value = mdp.policy_iteration(mdp.gridworld_3x4(), discount=0.9).value
      >>> round(float(value[2]), 2)  # beside the exit of +1
      0.85
    """
    return gridworld(GRID_3X4, noise, living_reward)


def maze_2x3(noise: Noise = 0.0, living_reward: Scalar = 0.0) -> MDP:
    """A maze of 2 x 3 cells: start top left, a goal of +10 top right, a trap of −10 below it. 6 states.

    Entering the goal or the trap pays and ends the episode; every other step pays `living_reward`, 0 by default.

    Examples:
      >>> from purerl import mdp
      >>> value = mdp.policy_iteration(mdp.maze_2x3(), discount=0.9).value
      >>> print(value.reshape(2, 3).round(1))  # 9 = 0 + 0.9 · 10
      [[ 9.  10.   0. ]
       [ 8.1  9.   0. ]]
    """
    return gridworld(MAZE_2X3, noise, living_reward, exits={"+": 10.0, "-": -10.0}, pay_on_arrival=True)


def _next_states(cells: Mapping[tuple[int, int], str], is_exit: np.ndarray) -> np.ndarray:
    """[S, 4, 3]: where each move leads, and where its slips to the left and to the right lead."""
    number = {cell: state for state, cell in enumerate(cells)}
    target = np.array([[number.get((r + dr, c + dc), s) for dr, dc in MOVES] for (r, c), s in number.items()])
    target = np.where(is_exit[:, None], np.arange(len(cells))[:, None], target)  # [S, 4]
    return np.stack([target, np.roll(target, 1, axis=1), np.roll(target, -1, axis=1)], axis=-1)


def _slips(noise: Noise) -> tuple[jax.Array, jax.Array]:
    """Probabilities of a slip to the left and to the right."""
    shape = jnp.asarray(noise).shape
    if not shape:
        half = check_scalar("noise", noise, 0, 1) / 2  # type: ignore[arg-type]
        return half, half
    if shape != (2,):
        raise ValueError(f"noise must be a number or a pair (left, right), got shape {shape}")
    left, right = (check_scalar(f"noise[{i}]", noise[i], 0, 1) for i in range(2))  # type: ignore[index]
    check_scalar("noise[0] + noise[1]", left + right, 0, 1 + 1e-6)
    return left, jnp.minimum(right, 1 - left)


def _cells(layout: Sequence[str], exits: Mapping[str, float]) -> dict[tuple[int, int], str]:
    """The character of every cell that is not a wall, by (row, column), row by row."""
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
