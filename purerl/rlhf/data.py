"""From rows of text to the arrays that the agents take; malformed rows are named by their index.

Rows are any mapping of columns with the field's names: `prompt` and `completion` (SFT), with `label` (KTO), or
`prompt`, `chosen` and `rejected`. A tokenizer is any object with `encode(text) -> ids` and `decode(ids) -> text`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class ByteTokenizer:
    """UTF-8 bytes as tokens 0 to 255; 256 ends a text and 257 is padding."""

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
      pad_id: padding.
    """

    tokenizer: Any
    prompt_length: int
    max_length: int
    eos_id: int
    pad_id: int


class Problem(NamedTuple):
    """What is wrong with one row."""

    row: int
    column: str
    reason: str


def find_problems(rows: Mapping[str, Sequence[Any]], layout: Layout) -> list[Problem]:
    """Every malformed row: an empty prompt or completion, one too long, chosen equal to rejected, a label not 0 or 1.

    Raises:
      ValueError: a column is missing, or columns have different lengths.
    """
    texts = _text_columns(rows)
    ending = int(layout.eos_id >= 0)
    problems = []
    for index in range(len(rows["prompt"])):
        for column in ("prompt", *texts):
            tokens = len(layout.tokenizer.encode(rows[column][index]))
            limit = layout.prompt_length if column == "prompt" else layout.max_length - ending
            if tokens == 0:
                problems.append(Problem(index, column, "is empty"))
            elif tokens > limit:
                problems.append(Problem(index, column, f"has {tokens} tokens, more than {limit}"))
        if len(texts) == 2 and rows["chosen"][index] == rows["rejected"][index]:
            problems.append(Problem(index, "chosen", "equals rejected"))
        if "label" in rows and rows["label"][index] not in (0, 1):
            problems.append(Problem(index, "label", f"is {rows['label'][index]!r}, neither true nor false"))
    return problems


def encode_completions(rows: Mapping[str, Sequence[Any]], layout: Layout) -> dict[str, np.ndarray]:
    """Columns `prompt`, `completion` to one text a row: `tokens` int32, `mask`, `completion` bool, each [B, W].

    Raises:
      ValueError: malformed rows, with their indices.
    """
    _refuse(rows, layout)
    return _encode(rows["prompt"], rows["completion"], layout)


def encode_labelled(rows: Mapping[str, Sequence[Any]], layout: Layout) -> dict[str, np.ndarray]:
    """Columns `prompt`, `completion`, `label` for `kto`: as `encode_completions`, with `label` and mismatched `kl_*`.

    Row i of `kl_*` is prompt i with completion i + 1.

    Raises:
      ValueError: malformed rows, with their indices; no column `label`.
    """
    if "label" not in rows:
        raise ValueError(f"the data have no column 'label'; they have {', '.join(rows)}")
    data = encode_completions(rows, layout)
    completions = list(rows["completion"])
    shifted = _encode(rows["prompt"], completions[1:] + completions[:1], layout)
    label = np.asarray(rows["label"]).astype(bool)
    return data | {"label": label} | {f"kl_{name}": column for name, column in shifted.items()}


def encode_pairs(rows: Mapping[str, Sequence[Any]], layout: Layout) -> dict[str, np.ndarray]:
    """Columns `prompt`, `chosen`, `rejected` to ranked texts: `tokens`, `mask`, `completion`, each [B, 2, W].

    Raises:
      ValueError: malformed rows, with their indices.
    """
    _refuse(rows, layout)
    chosen, rejected = (_encode(rows["prompt"], rows[name], layout) for name in ("chosen", "rejected"))
    return {name: np.stack([chosen[name], rejected[name]], axis=1) for name in chosen}


def encode_prompts(prompts: Sequence[str], layout: Layout) -> np.ndarray:
    """[P, prompt_length] int32, padded on the left, for `token_env` and `generate`.

    Raises:
      ValueError: a prompt is too long.
    """
    out = np.full((len(prompts), layout.prompt_length), layout.pad_id, np.int32)
    for i, prompt in enumerate(prompts):
        ids = layout.tokenizer.encode(prompt)
        if len(ids) > layout.prompt_length:
            raise ValueError(f"prompt {i} has {len(ids)} tokens, more than {layout.prompt_length}")
        out[i, layout.prompt_length - len(ids) :] = ids
    return out


def _text_columns(rows: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    columns = ("chosen", "rejected") if "chosen" in rows else ("completion",)
    missing = [name for name in ("prompt", *columns) if name not in rows]
    if missing:
        raise ValueError(f"the data have no column {missing[0]!r}; they have {', '.join(rows)}")
    lengths = {name: len(rows[name]) for name in ("prompt", *columns, *(["label"] if "label" in rows else []))}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns have different lengths: {lengths}")
    return columns


def _refuse(rows: Mapping[str, Sequence[Any]], layout: Layout) -> None:
    problems = find_problems(rows, layout)
    if problems:
        shown = "; ".join(f"row {p.row}: {p.column} {p.reason}" for p in problems[:5])
        rest = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise ValueError(f"malformed rows: {shown}{rest}; `find_problems` lists them all")


def _encode(prompts: Sequence[str], completions: Sequence[str], layout: Layout) -> dict[str, np.ndarray]:
    answers = np.full((len(prompts), layout.max_length), layout.pad_id, np.int32)
    lengths = np.zeros(len(prompts), np.int64)
    for i, text in enumerate(completions):
        ids = list(layout.tokenizer.encode(text)) + [layout.eos_id] * (layout.eos_id >= 0)
        answers[i, : len(ids)] = ids
        lengths[i] = len(ids)
    questions = encode_prompts(prompts, layout)
    written = np.arange(layout.max_length) < lengths[:, None]
    return {
        "tokens": np.concatenate([questions, answers], axis=1),
        "mask": np.concatenate([questions != layout.pad_id, written], axis=1),
        "completion": np.concatenate([np.zeros(questions.shape, bool), written], axis=1),
    }
