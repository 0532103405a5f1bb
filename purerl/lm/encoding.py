"""From rows of text to token ids: chat templates, special tokens once each, truncation with counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from purerl.lm.rows import Row, Text


class Encoder(NamedTuple):
    """How texts become tokens.

    Attributes:
      encode: text to ids, without special tokens.
      decode: ids to text.
      bos: ids that begin every text, as the tokenizer itself would add them; () for none.
      eos_id: the token that ends every completion.
      pad_id: fills up. It may be `eos_id`, since padding is known by lengths and never by ids.
      render: None, or `(messages, open) -> text` by a chat template; `open` ends it where the answer begins. It raises
        `ValueError` for a conversation that the template refuses.
      chat: whether plain texts are wrapped as messages of a user and an assistant.
      stop_ids: tokens beside `eos_id` that end a generated text.
    """

    encode: Callable[[str], Sequence[int]]
    decode: Callable[[Sequence[int]], str]
    bos: tuple[int, ...]
    eos_id: int
    pad_id: int
    render: Callable[[list[dict[str, str]], bool], str] | None = None
    chat: bool = False
    stop_ids: tuple[int, ...] = ()


class Encoded(NamedTuple):
    """A row as tokens: ids of the prompt, and of each completion with its end token."""

    prompt: list[int]
    texts: tuple[list[int], ...]


class Limits(NamedTuple):
    """Longest texts, in tokens.

    Attributes:
      max_length: of prompt and completion together; longer completions lose their end.
      max_prompt_length: of a prompt; longer ones lose their beginning.
    """

    max_length: int
    max_prompt_length: int


def encode_row(row: Row, encoder: Encoder) -> Encoded:
    """The ids of a row.

    A prompt begins with the tokenizer's own special tokens and a completion ends with `eos_id`, each exactly once,
    whether or not the text or the template has them already.

    Raises:
      ValueError: names the line of a conversation that the chat template refuses, or for which the tokenizer has none;
        or of one whose rendering does not begin with that of the prompt.

    Examples:
      >>> from purerl.rlhf import ByteTokenizer
      >>> tokenizer = ByteTokenizer()
      >>> encoder = Encoder(tokenizer.encode, tokenizer.decode, bos=(), eos_id=256, pad_id=257)
      >>> encode_row(Row(1, "hi", ("!",), None, {}), encoder)
      Encoded(prompt=[104, 105], texts=([33, 256],))
    """
    if encoder.chat or isinstance(row.prompt, list) or any(isinstance(text, list) for text in row.texts):
        prompt, texts = _rendered(row, encoder)
    else:
        prompt, texts = str(row.prompt), [str(text) for text in row.texts]
    asked = list(encoder.encode(prompt)) if prompt else []
    if tuple(asked[: len(encoder.bos)]) != encoder.bos:
        asked = [*encoder.bos, *asked]
    return Encoded(asked, tuple(_ended(list(encoder.encode(text)), encoder.eos_id) for text in texts))


def encode_prompt(prompt: Text, encoder: Encoder) -> list[int]:
    """The ids of a prompt, ready for a completion."""
    return encode_row(Row(0, prompt, (), None, {}), encoder).prompt


def _ended(ids: list[int], eos_id: int) -> list[int]:
    """The ids up to their first end token, which is added if there is none; nothing of an empty text."""
    return [*ids[: ids.index(eos_id)], eos_id] if eos_id in ids else [*ids, eos_id]


def _rendered(row: Row, encoder: Encoder) -> tuple[str, list[str]]:
    if encoder.render is None:
        raise ValueError(
            f"line {row.line} is a conversation, but the tokenizer has no chat template: pass --template FILE"
        )
    asked = _as_messages(row.prompt, "user")
    try:
        prompt = encoder.render(asked, True)
        whole = [encoder.render([*asked, *_as_messages(text, "assistant")], False) for text in row.texts]
    except ValueError as error:
        raise ValueError(f"line {row.line}: {error}" if row.line else str(error)) from error
    if not all(text.startswith(prompt) for text in whole):
        raise ValueError(f"line {row.line}: the chat template changes the prompt once there is an answer")
    return prompt, [text[len(prompt) :] for text in whole]


def _as_messages(text: Text, role: str) -> list[dict[str, str]]:
    return text if isinstance(text, list) else [{"role": role, "content": text}]


def cut(encoded: Encoded, limits: Limits) -> tuple[Encoded, int]:
    """The row within the limits, and how many of its texts lost tokens.

    Prompts lose their beginning, completions their end, with the end token: a text that was cut has not ended.

    Examples:
      >>> cut(Encoded([1, 2, 3], ([4, 5, 0],)), Limits(max_length=4, max_prompt_length=2))
      (Encoded(prompt=[2, 3], texts=([4, 5],)), 2)
    """
    prompt = encoded.prompt[-limits.max_prompt_length :]
    texts = tuple(text[: limits.max_length - len(prompt)] for text in encoded.texts)
    shorter = [len(new) < len(old) for new, old in zip((prompt, *texts), (encoded.prompt, *encoded.texts))]
    return Encoded(prompt, texts), sum(shorter)
