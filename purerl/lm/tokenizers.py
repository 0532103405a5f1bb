"""Tokenizers of model directories, by transformers; and tiny ones, made from a text."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from purerl.lm.encoding import Encoder
from purerl.lm.hub import read_object
from purerl.runtime import install_hint

END, START, PAD = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = ("auto", "chat", "none")


def load_encoder(directory: Path, template: str = "auto", vocab_size: int | None = None) -> Encoder:
    """The tokenizer of a model directory.

    Args:
      directory: with `tokenizer.json` or what else transformers reads; no code of the directory is run.
      template: "auto" renders conversations by the tokenizer's chat template and takes plain texts as they are; "chat"
        wraps plain texts as messages too; "none" refuses conversations; otherwise the path of a Jinja file.
      vocab_size: of the model.

    Raises:
      ValueError: no tokenizer, or one without an end token; an unknown template; a model whose vocabulary is smaller
        than the tokenizer's; a damaged `generation_config.json`.
      ModuleNotFoundError: transformers is not installed.
    """
    tokenizer = _tokenizer(directory)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{directory}: the tokenizer has no end token (eos_token)")
    if vocab_size is not None and len(tokenizer) > vocab_size:
        raise ValueError(
            f"{directory}: the tokenizer has {len(tokenizer):,} tokens, more than the model's vocabulary of "
            f"{vocab_size:,}"
        )
    source = _template(template, tokenizer, directory)

    def render(messages: list[dict[str, str]], open_answer: bool) -> str:
        try:
            return tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=open_answer, chat_template=source
            )
        except Exception as error:  # a template is the model's own program, and may fail in any way
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"the chat template refuses the conversation: {reason}") from error

    bare, whole = (tokenizer.encode("a", add_special_tokens=each) for each in (False, True))
    bos = tuple(whole[: whole.index(bare[0])]) if bare and bare[0] in whole else ()
    pad_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return Encoder(
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
        decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=True),
        bos=bos,
        eos_id=tokenizer.eos_token_id,
        pad_id=pad_id,
        render=render if source is not None else None,
        chat=template == "chat" or template not in TEMPLATES,
        stop_ids=_stop_ids(directory, tokenizer.eos_token_id),
    )


def _stop_ids(directory: Path, eos_id: int) -> tuple[int, ...]:
    """The other end tokens in `generation_config.json`, such as that of a turn."""
    file = directory / "generation_config.json"
    found = read_object(file).get("eos_token_id") if file.is_file() else None
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(isinstance(i, int) for i in ids):
        raise ValueError(f"{file}: eos_token_id must be a token's number or a list of them, found {found!r}")
    return tuple(i for i in ids if i != eos_id)


def _tokenizer(directory: Path) -> Any:
    if importlib.util.find_spec("transformers") is None:
        raise ModuleNotFoundError(f"language models need transformers: {install_hint('lm')}")
    logging.getLogger("transformers").addFilter(_is_about_tokenizers)
    from transformers import AutoTokenizer

    if not any((directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ValueError(f"{directory} has no tokenizer: no tokenizer.json, tokenizer.model or vocab.json")
    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds of errors on damaged files
        raise ValueError(f"{directory}: the tokenizer cannot be read: {error}") from error


def _is_about_tokenizers(record: logging.LogRecord) -> bool:
    """False for the advice to install torch, which its tokenizers do without."""
    return "PyTorch was not found" not in record.getMessage()


def _template(template: str, tokenizer: Any, directory: Path) -> str | None:
    if template == "none":
        return None
    if template in TEMPLATES:
        if template == "chat" and not tokenizer.chat_template:
            raise ValueError(f"{directory}: the tokenizer has no chat template: pass --template FILE")
        return tokenizer.chat_template
    path = Path(template)
    if not path.is_file():
        raise ValueError(f"unknown template {template!r}: it is neither {', '.join(TEMPLATES)} nor a file")
    source = path.read_text(encoding="utf-8")
    if "messages" not in source:
        raise ValueError(f"{template} is not a chat template: it does not mention messages")
    return source


def make_tokenizer(directory: Path, texts: Iterable[str], vocab_size: int) -> int:
    """Write a byte-level BPE tokenizer trained on texts, with a chat template, and return its number of tokens.

    Args:
      directory: where `tokenizer.json` and its configuration are written.
      texts: training data; without any, every byte is a token.
      vocab_size: tokens at most, at least 259: 256 bytes and three special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "TokenizersBackend", "eos_token": END, "pad_token": PAD, "unk_token": PAD,
        "chat_template": CHAT_TEMPLATE, "model_max_length": 2048, "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return tokenizer.get_vocab_size()
