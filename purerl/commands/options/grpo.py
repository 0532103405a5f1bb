"""Options of `purerl grpo`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from purerl.commands.options import count, one_of, option, parse_count_or_zero, parse_number, several
from purerl.commands.options.finetuning import Devices, Lora, Model, Run, gradient_limit, prompt_limit


@dataclasses.dataclass(frozen=True)
class Options:
    """Reinforce a language model by a reward of its completions, from a JSONL file of prompts.

    The reward is a function of yours, `(prompts, completions, **columns) -> numbers`, named by module:function, or the
    directory of a model that `purerl reward` saved. The reference is the model as it is at the start.
    """

    EXAMPLES: ClassVar = (
        "purerl grpo prompts.jsonl --model sft --output out --reward module:function",
        "purerl grpo prompts.jsonl --model sft --output out --reward tiny-reward",
    )

    data: str = option("The prompts, as JSON lines.", "", metavar="FILE", positional=True)
    reward: tuple[str, ...] = several(
        "module:function or DIR; of several the rewards are added.", metavar="FUNCTION|DIR"
    )
    algorithm: str = option(
        "grpo, rloo, or ppo, which trains a head of values too.",
        "grpo",
        parse=one_of("grpo", "rloo", "ppo"),
        metavar="ALGORITHM",
    )
    beta: float = option("Price of a nat of KL to the reference.", 0.05, parse=parse_number(low=0.0), metavar="X")
    clip_epsilon: float = option(
        "Half width of the ratios that are not clipped.", 0.2, parse=parse_number(low=0.0), metavar="X"
    )
    group_size: int = count("Completions per prompt.", 8)
    num_prompts: int = count("Prompts per update.", 8)
    num_updates: int = count("Updates.", 100)
    num_epochs: int = count("Passes over the completions of an update.", 1)
    num_minibatches: int = count("Gradient steps per pass.", 1)
    learning_rate: float = option("Adam's step size.", 1e-5, parse=parse_number(low=0.0), metavar="X")
    max_grad_norm: float = gradient_limit()
    max_tokens: int = count("Longest completion, in tokens.", 128)
    max_prompt_length: int = prompt_limit()
    eval_prompts: int = option(
        "Prompts that are completed before and after, for the rewards that are printed.",
        64,
        parse=parse_count_or_zero,
        metavar="N",
    )
    model: Model = dataclasses.field(default_factory=Model)
    lora: Lora = dataclasses.field(default_factory=Lora)
    devices: Devices = dataclasses.field(default_factory=Devices)
    run: Run = dataclasses.field(default_factory=Run)
