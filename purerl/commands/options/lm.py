"""Options of `purerl lm`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from purerl.commands.options import count, one_of, option, parse_count_or_zero, parse_number, seed


@dataclasses.dataclass(frozen=True)
class Options:
    """Make small language models, and sample any, in Hugging Face's format.

    init: write a small random model, with a tokenizer trained on --corpus.
    generate: complete --prompt.
    """

    EXAMPLES: ClassVar = (
        "purerl lm init tiny --corpus data.jsonl",
        'purerl lm generate tiny-dpo --prompt "The weather today" --temperature 0.7',
    )

    action: str = option("init or generate.", "", metavar="ACTION", positional=True)
    directory: str = option("The model.", "", metavar="DIR", positional=True)
    size: str = option(
        "init: tiny (0.1 million weights), small (3 million) or base (74 million), beside the embedding.",
        "tiny",
        parse=one_of("tiny", "small", "base"),
        metavar="MODEL",
    )
    family: str = option(
        "init: qwen2, qwen3, llama or gemma3_text.",
        "qwen2",
        parse=one_of("qwen2", "qwen3", "llama", "gemma3_text"),
        metavar="FAMILY",
    )
    vocab_size: int = count("init: tokens at most.", 512)
    corpus: str | None = option(
        "init: JSONL file whose texts the tokenizer is trained on.", metavar="FILE", shown="every byte is a token"
    )
    prompt: str | None = option("generate: what is completed.", metavar="TEXT")
    template: str = option("generate: auto, chat, none, or a Jinja file.", "auto", metavar="NAME|FILE")
    max_tokens: int = count("generate: tokens at most.", 64)
    num_samples: int = count("generate: completions.", 1)
    temperature: float = option("generate: 0 is greedy.", 1.0, parse=parse_number(low=0.0), metavar="X")
    top_k: int = option("generate: only the K most probable tokens; 0: all.", 0, parse=parse_count_or_zero, metavar="K")
    top_p: float = option(
        "generate: only the most probable tokens that make up this probability.",
        1.0,
        parse=parse_number(low=0.0, high=1.0),
        metavar="P",
    )
    seed: int = seed("Random seed.")
