"""Options of `purerl solve`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

from purerl.commands.options import one_of, option, parse_count_or_zero, parse_number


def parse_noise(text: str) -> float | tuple[float, float]:
    """A probability, or two of them as in 0.5,0.1.

    Raises:
      ValueError: the text is neither.
    """
    one = parse_number(0, 1)
    if "," not in text:
        return one(text)
    left, right = text.split(",", 1)
    return one(left), one(right)


@dataclasses.dataclass(frozen=True)
class Options:
    """Solve a finite MDP exactly by dynamic programming, and print its values and policy."""

    EXAMPLES: ClassVar = (
        "purerl solve gridworld --sweeps 3 --output figures",
        "purerl solve FrozenLake --method policy_iteration",
    )

    mdp: str = option(
        "gridworld, maze, FrozenLake, FrozenLake8x8, CliffWalking, Taxi, gambler, car_rental, random_walk, or a text "
        "file with a grid world: ' ' free, '#' wall, 'S' start, '+' and '-' exits.",
        "",
        metavar="MDP",
        positional=True,
    )
    discount: float | None = option(
        "Discount per step.",
        parse=parse_number(0, 1),
        metavar="GAMMA",
        shown="1 for gambler and random_walk, 0.99 for Gymnasium's, otherwise 0.9",
    )
    method: str = option(
        "value_iteration, policy_iteration or modified_policy_iteration.",
        "value_iteration",
        parse=one_of("value_iteration", "policy_iteration", "modified_policy_iteration"),
        metavar="METHOD",
    )
    noise: float | tuple[float, float] | None = option(
        "Grid worlds: probability of slipping, half of it to each side; or LEFT,RIGHT.",
        parse=parse_noise,
        metavar="P",
        shown="0.2; 0 for maze",
    )
    living_reward: float | None = option(
        "Grid worlds: reward of every step that does not end the episode.",
        parse=parse_number(),
        metavar="REWARD",
        shown="0",
    )
    sweeps: int = option(
        "Also show the values after each of this many sweeps of value iteration.",
        0,
        parse=parse_count_or_zero,
        metavar="N",
    )
    tolerance: float = option(
        "Stop when no value changes by more. Policy iteration needs no tolerance.",
        1e-8,
        parse=parse_number(low=0.0),
        metavar="CHANGE",
    )
    output: Path | None = option(
        "Directory for the figures MDP.png and MDP-sweeps.png.", parse=Path, metavar="DIR", shown="no figures"
    )
