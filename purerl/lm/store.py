"""Tokenized rows on disk: a file of ids, mapped into memory, and an index, so that data may be larger than memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from purerl.lm.encoding import Encoded, Encoder, Limits, cut, encode_row
from purerl.lm.rows import Kind, Row, Text, read_rows
from purerl.rlhf.data import mismatched_rows

_SHOWN = 5


class Store(NamedTuple):
    """Rows as tokens.

    Attributes:
      tokens: int32 ids of all texts, mapped from disk.
      prompt: [R, 2] start and length of each prompt in `tokens`.
      texts: [R, K, 2] start and length of each completion, best first; length 0: absent.
      label: [R] bool, of labelled completions.
      line: [R] line of the file that a row comes from, from 1.
    """

    tokens: np.ndarray
    prompt: np.ndarray
    texts: np.ndarray
    label: np.ndarray
    line: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """[R] tokens of the longest text of each row, with its prompt."""
        return self.prompt[:, 1] + self.texts[:, :, 1].max(axis=1, initial=0)

    def take(self, rows: np.ndarray) -> Store:
        """Some of the rows."""
        return self._replace(
            prompt=self.prompt[rows], texts=self.texts[rows], label=self.label[rows], line=self.line[rows]
        )


class Report(NamedTuple):
    """What became of the rows of a file.

    Attributes:
      rows: that were read.
      kept: that are trained on.
      dropped: lines by the reason for which they were dropped.
      cut: prompts and completions that lost tokens to a limit.
      tokens: kept, of prompts and completions.
    """

    rows: int
    kept: int
    dropped: dict[str, list[int]]
    cut: int
    tokens: int

    def sentences(self, name: str) -> list[str]:
        """The report as a person reads it."""
        said = [f"{name}: {self.kept:,} of {self.rows:,} rows, {self.tokens:,} tokens"]
        for reason, lines in self.dropped.items():
            shown = ", ".join(map(str, lines[:_SHOWN])) + (", ..." if len(lines) > _SHOWN else "")
            said.append(f"dropped {len(lines):,}: {reason} (line {shown})")
        return said + ([f"cut {self.cut:,} texts that were too long"] if self.cut else [])


def build(
    path: str | os.PathLike[str], kind: Kind, encoder: Encoder, limits: Limits, file: Path, vocab_size: int
) -> tuple[Store, Report]:
    """Tokenize a JSONL file.

    Args:
      path: the JSONL file, read line by line.
      kind: see `rows`.
      encoder: from text to ids.
      limits: longest texts.
      file: where the ids are written, 4 bytes each.
      vocab_size: of the model.

    Returns:
      The rows, and what was dropped and cut. For labelled completions each row has a second text, the completion of
      another prompt, for KTO's reference point.

    Raises:
      ValueError: names file and line of a malformed row; no row is left; an id that the model does not have.
    """
    index = _Index([], [], [], [])
    dropped: dict[str, list[int]] = {}
    rows = trimmed = 0
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "wb") as out:
        for row in read_rows(path, kind):
            rows += 1
            encoded, number, reason = _encode(row, encoder, limits)
            if reason:
                dropped.setdefault(reason, []).append(row.line)
                continue
            trimmed += number
            _check_ids(encoded, vocab_size, f"{os.fspath(path)}, line {row.line}")
            index.add(row, encoded)
            for part in (encoded.prompt, *encoded.texts):
                out.write(np.asarray(part, np.int32).tobytes())
    report = Report(rows, len(index.line), dropped, trimmed, index.position)
    if not index.line:
        raise ValueError(f"{os.fspath(path)}: no row is left of {rows}: " + ("; ".join(dropped) or "the file is empty"))
    store = index.store(np.memmap(file, np.int32, mode="r") if index.position else np.empty(0, np.int32))
    return (_with_mismatched(store, limits) if kind == "labelled" else store), report


class _Index(NamedTuple):
    """Where the rows written so far are."""

    lengths: list[tuple[int, ...]]
    label: list[bool]
    line: list[int]
    total: list[int]

    @property
    def position(self) -> int:
        """Ids written."""
        return sum(self.total)

    def add(self, row: Row, encoded: Encoded) -> None:
        """One row more."""
        lengths = (len(encoded.prompt), *map(len, encoded.texts))
        self.lengths.append(lengths)
        self.label.append(bool(row.label))
        self.line.append(row.line)
        self.total.append(sum(lengths))

    def store(self, tokens: np.ndarray) -> Store:
        """The rows; shorter rankings are filled up with absent texts."""
        most = max(map(len, self.lengths))
        lengths = np.array([[*row, *[0] * (most - len(row))] for row in self.lengths], np.int64)  # [R, 1 + K]
        first = np.cumsum([0, *self.total[:-1]])[:, None]
        starts = first + np.cumsum(np.pad(lengths, ((0, 0), (1, 0)))[:, :-1], axis=1)
        spans = np.stack([starts, lengths], axis=-1)  # [R, 1 + K, 2]
        return Store(tokens, spans[:, 0], spans[:, 1:], np.array(self.label), np.array(self.line))


def _encode(row: Row, encoder: Encoder, limits: Limits) -> tuple[Encoded, int, str]:
    """The row as tokens, how many texts were cut, and why it is dropped; "" if it is kept."""
    empty = Encoded([], ())
    if not all(map(_content, row.texts)):
        return empty, 0, "a completion is empty"
    if row.prompt == [] or (not _content(row.prompt) and len(row.texts) != 1):
        return empty, 0, "the prompt is empty"
    if len({_content(text) for text in row.texts}) < len(row.texts):
        return empty, 0, "chosen equals rejected"
    encoded, number = cut(encode_row(row, encoder), limits)
    if not all(encoded.texts):
        return empty, 0, "the prompt leaves no room for a completion"
    if len(set(map(tuple, encoded.texts))) < len(encoded.texts):
        return empty, 0, "chosen equals rejected once they are cut"
    return encoded, number, ""


def _content(text: Text) -> str:
    return text.strip() if isinstance(text, str) else " ".join(message["content"].strip() for message in text).strip()


def _check_ids(encoded: Encoded, vocab_size: int, where: str) -> None:
    largest = max(max(part, default=0) for part in (encoded.prompt, *encoded.texts))
    if largest >= vocab_size:
        raise ValueError(f"{where}: token {largest} is outside the model's vocabulary of {vocab_size}")


def _with_mismatched(store: Store, limits: Limits) -> Store:
    """Beside each row's own completion one that was written for another prompt, which takes no room on disk.

    What is longer than the limit behind this prompt loses its end, as the row's own completion does.
    """
    prompts, texts = ([_key(store, span) for span in spans] for spans in (store.prompt, store.texts[:, 0]))
    others = mismatched_rows(prompts, texts)
    starts, lengths = np.moveaxis(store.texts[others], -1, 0)  # each [R, 1]
    fitting = np.minimum(lengths, limits.max_length - store.prompt[:, 1:])
    return store._replace(texts=np.concatenate([store.texts, np.stack([starts, fitting], axis=-1)], axis=1))


def _key(store: Store, span: np.ndarray) -> str:
    """A text that is equal for equal tokens."""
    return store.tokens[span[0] : span[0] + span[1]].tobytes().decode("latin-1")


def assemble(store: Store, rows: np.ndarray, width: int, batch_size: int, pad_id: int) -> dict[str, np.ndarray]:
    """Texts of some rows, padded on the right: `tokens` int32, `mask` and `completion` bool, each [B, K, W].

    Args:
      store: all rows.
      rows: indices, at most `batch_size`; missing ones become rows without tokens.
      width: W; longer texts are cut there.
      batch_size: B.
      pad_id: the token behind the texts.

    Examples:
      >>> spans = np.array([[[0, 1], [1, 2]]])
      >>> store = Store(np.array([7, 8, 9], np.int32), spans[:, 0], spans[:, 1:], np.zeros(1, bool), np.ones(1, int))
      >>> batch = assemble(store, np.array([0]), width=4, batch_size=1, pad_id=0)
      >>> batch["tokens"].tolist(), batch["completion"].astype(int).tolist()
      ([[[7, 8, 9, 0]]], [[[0, 1, 1, 0]]])
    """
    count = store.texts.shape[1]
    shape = (batch_size, count, width)
    out = {
        "tokens": np.full(shape, pad_id, np.int32),
        "mask": np.zeros(shape, bool),
        "completion": np.zeros(shape, bool),
    }
    for i, row in enumerate(rows):
        start, asked = store.prompt[row]
        for k, (begin, size) in enumerate(store.texts[row]):
            end = min(asked + size, width)
            if size == 0:
                continue
            out["tokens"][i, k, :asked] = store.tokens[start : start + asked]
            out["tokens"][i, k, asked:end] = store.tokens[begin : begin + end - asked]
            out["mask"][i, k, :end] = True
            out["completion"][i, k, asked:end] = True
    return out


def prompts(
    path: str | os.PathLike[str], encoder: Encoder, limits: Limits
) -> tuple[list[tuple[Row, list[int]]], Report]:
    """The rows of a file of prompts with their ids, and what was dropped and cut; see `rows.read_rows` for errors."""
    found: list[tuple[Row, list[int]]] = []
    empty: list[int] = []
    trimmed = 0
    for row in read_rows(path, "prompts"):
        if not _content(row.prompt):
            empty.append(row.line)
            continue
        ids = encode_row(row, encoder).prompt
        trimmed += len(ids) > limits.max_prompt_length
        found.append((row, ids[-limits.max_prompt_length :]))
    dropped = {"the prompt is empty": empty} if empty else {}
    tokens = sum(len(ids) for _, ids in found)
    return found, Report(len(found) + len(empty), len(found), dropped, trimmed, tokens)


def left_padded(rows: Iterable[list[int]], width: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts [P, width] int32 and their mask, padded on the left.

    Examples:
      >>> [x.tolist() for x in left_padded([[5], [6, 7]], width=2, pad_id=0)]
      [[[0, 5], [6, 7]], [[False, True], [True, True]]]
    """
    rows = list(rows)
    tokens = np.full((len(rows), width), pad_id, np.int32)
    for i, ids in enumerate(rows):
        tokens[i, width - len(ids) :] = ids
    lengths = np.array([len(ids) for ids in rows])
    return tokens, np.arange(width)[None] >= width - lengths[:, None]
