"""The Arcade Learning Environment: Atari games, preprocessed and stepped by threads in C++."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from purerl.envs.adapters.gymnasium import HostEnv, from_gymnasium
from purerl.envs.families import Family, check_member


def _make(name: str, *, num_envs: int = 1, **settings: Any) -> HostEnv:
    """The game "Pong-v5" as four frames of 84 x 84 grey pixels, [84, 84, 4], of which each is the last of four.

    Settings are those of `ale_py.AtariVectorEnv`: `frameskip`, `stack_num`, `episodic_life`, `reward_clipping`, ...
    """
    from ale_py.vector_env import AtariVectorEnv
    from gymnasium.vector import AutoresetMode

    check_member("ale", name, _names())
    game = _games()[name]
    vector = AtariVectorEnv(game, num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **settings)
    limit = int(settings.get("max_num_frames_per_episode", 108_000)) // int(settings.get("frameskip", 4))
    return from_gymnasium(vector)._replace(max_steps=limit)


def _games() -> dict[str, str]:
    """The names of the ROMs, such as space_invaders, by those of Gymnasium, such as SpaceInvaders-v5."""
    from ale_py import roms

    return {"".join(word.capitalize() for word in rom.split("_")) + "-v5": rom for rom in roms.get_all_rom_ids()}


def _names() -> Sequence[str]:
    return sorted(_games())


FAMILY = Family(_make, _names, "ale_py", "ale", "Atari games", "Pong-v5", on_host=True)
