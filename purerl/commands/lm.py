"""`purerl lm`: make small language models, and sample any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax

from purerl.commands import console
from purerl.commands.options import UsageError, nearest, usage_errors
from purerl.commands.options.lm import Options
from purerl.lm import generation, hub, initial, rows, tokenizers
from purerl.lm.encoding import encode_prompt
from purerl.lm.generation import Sampling


def run(options: Options) -> None:
    """Do what is asked.

    Raises:
      UsageError: an argument is missing, or the directory is not what it should be.
    """
    actions = {"init": _init, "generate": _generate}
    if not options.action or not options.directory:
        raise UsageError("give an action and a directory: purerl lm init DIR, or purerl lm generate DIR")
    if options.action not in actions:
        raise UsageError(f"{options.action!r} is not one of init, generate{nearest(options.action, actions)}")
    with usage_errors():
        actions[options.action](options)


def _init(options: Options) -> None:
    if options.vocab_size < 259:
        raise UsageError(f"--vocab-size {options.vocab_size}: 259 is the least, for 256 bytes and three special tokens")
    texts = [] if options.corpus is None else list(_texts(options.corpus))
    config = initial.write_model(
        jax.random.key(options.seed), options.directory, options.size, options.family, texts, options.vocab_size
    )
    params = hub.load(options.directory).params
    console.prose(
        f"Saved a random {options.family} of {initial.count(params):,} weights and {config['vocab_size']:,} tokens: "
        f"{options.directory}"
    )


def _texts(path: str) -> Iterator[str]:
    """All texts of a JSONL file, whatever its columns are."""
    for row in rows.read_objects(path):
        yield from rows.texts_in(row)


def _generate(options: Options) -> None:
    if options.prompt is None:
        raise UsageError("generate needs --prompt TEXT")
    model = hub.load(options.directory)
    encoder = tokenizers.load_encoder(Path(options.directory), options.template, model.config["vocab_size"])
    sampling = Sampling(options.max_tokens, options.temperature, options.top_k, options.top_p)
    prompt = encode_prompt(options.prompt, encoder)
    if not prompt:
        raise UsageError("--prompt is empty, and the tokenizer has no token that begins a text: give at least a letter")
    found = generation.complete_texts(
        jax.random.key(options.seed), model.network, model.params, [prompt] * options.num_samples, encoder, sampling
    )
    for text in found:
        console.say(text)
