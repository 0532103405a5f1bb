"""The memory of a block on an accelerator, from two widths, against the compiler's own account at a third one.

    python -m benchmarks.accelerators.widths --target h100 [--save]

Run it with the interpreter of the target's environment. The limit is four fifths of the device's memory; of the two
widths the wider takes about half of it, and the third is the one that the line through them proposes for the whole.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import pathlib
from typing import Any

RECORD = pathlib.Path(__file__).parents[1] / "results" / "accelerators_widths.json"
CASES = (("ppo", "CartPole-v1"), ("ppo", "Breakout-MinAtar"), ("dqn", "CartPole-v1"), ("sac", "Pendulum-v1"))


def measure(target_name: str, algorithm: str, env_id: str) -> dict[str, Any]:
    """Predicted and own account of the program that trains a block for one update."""
    import jax
    import numpy as np

    import purerl
    from purerl import presets
    from purerl.accelerators.programs import compile_for
    from purerl.accelerators.targets import TARGETS
    from purerl.hparams import cast
    from purerl.sweep.run import memory, programs

    target = TARGETS[target_name]
    bare = purerl.envs.make(env_id)
    env, preset = presets.environment(algorithm, bare), presets.find(algorithm, env_id, bare)
    agent, rollout = presets.build(preset, env), presets.rollout(preset)
    program = programs.Program(agent, env, preset.num_envs, preset.rollout_length, rollout, 16, 1000)
    hparams = jax.tree.map(lambda x: np.asarray(x)[None], cast(presets.hparams(preset)))
    member = programs.MemberData(np.asarray(jax.random.key_data(jax.random.key(0)))[None], hparams, None)
    advance = jax.vmap(functools.partial(programs.advance_one, program, 1))
    asked: dict[int, float] = {}

    def account(width: int) -> float:
        if width not in asked:
            like = programs.states_like(program, member, width)
            asked[width] = memory.of_compiled(compile_for(target, advance, like, donate=(0,)))
        return asked[width]

    limit = memory.HEADROOM * target.memory
    line = memory.line_within(limit, account, memory.FIRST_WIDTH)
    fitted = sorted(asked)
    third = line.largest_width(limit)
    predicted, own = line.bytes(third), account(third)
    return {
        "widths": {str(width): asked[width] for width in fitted},
        "third": third,
        "predicted": predicted,
        "own": own,
        "ratio": round(predicted / own, 4),
    }


def main() -> None:
    """Measure all cases of one target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="h100")
    parser.add_argument("--only", default="", help="cases that contain this")
    parser.add_argument("--save", action="store_true")
    chosen = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    for algorithm, env_id in CASES:
        if chosen.only not in f"{algorithm} {env_id}":
            continue
        found = measure(chosen.target, algorithm, env_id)
        print(chosen.target, algorithm, env_id, found, flush=True)
        if chosen.save:
            record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
            record.setdefault(chosen.target, {})[f"{algorithm} {env_id}"] = found
            RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
