"""Rows of text, how they are laid out, and which of them are malformed.

Rows are any mapping of columns with the field's names: `prompt` and `completion` (SFT), with `label` (KTO), `prompt`,
`chosen` and `rejected` (pairs), or `prompt` and `ranking`, a list of texts from best to worst. A tokenizer is any
object with `encode(text) -> ids`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

Rows: TypeAlias = Mapping[str, Sequence[Any]]
"""Columns by name, of equal lengths."""


class Tokenizer(Protocol):
    """Anything with `encode`, such as the tokenizers of other libraries."""

    def encode(self, text: str, /) -> Sequence[int]:
        """The text's token ids, without special tokens."""


class ByteTokenizer:
    """UTF-8 bytes as tokens 0 to 255; 256 ends a text and 257 is padding.

    Examples:
      >>> tokenizer = ByteTokenizer()
      >>> tokenizer.encode("hi"), tokenizer.decode([104, 105, 256, 257])
      ([104, 105], 'hi')
    """

    eos_id = 256
    pad_id = 257
    vocab_size = 258

    def encode(self, text: str) -> list[int]:
        """The text's bytes."""
        return list(text.encode("utf-8"))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the bytes among the ids; the end token and padding are left out, broken UTF-8 is replaced."""
        return bytes(int(i) for i in ids if 0 <= int(i) < 256).decode("utf-8", errors="replace")


class Layout(NamedTuple):
    """How a row becomes W = prompt_length + max_length tokens: prompt on the left of the seam, completion on its right.

    Attributes:
      tokenizer: with `encode`.
      prompt_length: columns for prompts, which are padded on the left.
      max_length: columns for completions, with their end token, padded on the right.
      eos_id: appended to every completion; -1: none.
      pad_id: padding; it may be `eos_id`, and the masks then still tell them apart.
    """

    tokenizer: Tokenizer
    prompt_length: int
    max_length: int
    eos_id: int
    pad_id: int


class Problem(NamedTuple):
    """A malformed row, the column at fault, and the reason."""

    row: int
    column: str
    reason: str


def find_problems(rows: Rows, layout: Layout) -> list[Problem]:
    """Every malformed row.

    A row is malformed if its prompt or a completion is not a text, empty or too long; if its prompt holds the padding token (or, where
    `pad_id` is `eos_id`, begins with it); if chosen equals rejected; if a ranking has fewer than two texts or one of
    them twice; or if its label is neither 0 nor 1.

    Raises:
      ValueError: a column is missing, or columns have different lengths.

    Examples:
      >>> layout = Layout(ByteTokenizer(), prompt_length=4, max_length=4, eos_id=256, pad_id=257)
      >>> find_problems({"prompt": ["a", ""], "completion": ["x", "xyzu"]}, layout)
      [Problem(row=1, column='prompt', reason='is empty'), Problem(row=1, column='completion', reason='has 4 tokens, more than 3')]
    """  # noqa: E501
    names = _text_columns(rows)
    problems = []
    for index in range(len(rows["prompt"])):
        problems += [Problem(index, "prompt", reason) for reason in _text_problems(rows["prompt"][index], layout, True)]
        texts = [(name, text) for name in names for text in _texts_of(rows, name, index)]
        problems += [Problem(index, name, reason) for name, text in texts for reason in _text_problems(text, layout)]
        problems += [Problem(index, *found) for found in _row_problems(rows, index)]
    return problems


def _text_problems(text: Any, layout: Layout, is_prompt: bool = False) -> Iterator[str]:
    if not isinstance(text, str):
        yield f"is {text!r}, not a text"
        return
    ids = list(layout.tokenizer.encode(text))
    limit = layout.prompt_length if is_prompt else layout.max_length - int(layout.eos_id >= 0)
    if not ids:
        yield "is empty"
    elif len(ids) > limit:
        yield f"has {len(ids)} tokens, more than {limit}"
    elif is_prompt and ids[0] == layout.pad_id:
        yield f"begins with the padding token {layout.pad_id}"
    elif is_prompt and layout.pad_id != layout.eos_id and layout.pad_id in ids:
        yield f"holds the padding token {layout.pad_id}"


def _row_problems(rows: Rows, index: int) -> Iterator[tuple[str, str]]:
    if "chosen" in rows and rows["chosen"][index] == rows["rejected"][index]:
        yield "chosen", "equals rejected"
    if "ranking" in rows:
        yield from (("ranking", reason) for reason in _ranking_problems(rows["ranking"][index]))
    if "label" in rows and rows["label"][index] not in (0, 1):
        yield "label", f"is {rows['label'][index]!r}, neither true nor false"


def _ranking_problems(ranking: Any) -> Iterator[str]:
    if not _is_list(ranking):
        yield f"is {ranking!r}, not a list of texts"
    elif len(ranking) < 2:
        yield f"has {len(ranking)} texts, fewer than 2"
    elif any(text in list(ranking)[:i] for i, text in enumerate(ranking)):
        yield "has a text twice"


def _is_list(value: Any) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)


def _text_columns(rows: Rows) -> tuple[str, ...]:
    kinds = [name for name in ("chosen", "ranking") if name in rows] or ["completion"]
    columns = {"chosen": ("chosen", "rejected")}.get(kinds[0], (kinds[0],))
    missing = [name for name in ("prompt", *columns) if name not in rows]
    if missing:
        raise ValueError(f"the data have no column {missing[0]!r}; they have {', '.join(rows)}")
    lengths = {name: len(rows[name]) for name in ("prompt", *columns, *(["label"] if "label" in rows else []))}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns have different lengths: {lengths}")
    return columns


def _texts_of(rows: Rows, name: str, index: int) -> list[Any]:
    found = rows[name][index]
    if name != "ranking":
        return [found]
    return list(found) if _is_list(found) else []


def refuse_problems(rows: Rows, layout: Layout) -> None:
    """Reject malformed rows.

    Raises:
      ValueError: names the first of them by their indices.
    """
    problems = find_problems(rows, layout)
    if problems:
        shown = "; ".join(f"row {p.row}: {p.column} {p.reason}" for p in problems[:5])
        rest = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise ValueError(f"malformed rows: {shown}{rest}; `find_problems` lists them all")
