"""Rows of JSONL files: prompts, completions, pairs, labels and rankings, each with its line number.

| kind | columns of a line |
|---|---|
| `"completions"` | `prompt` and `completion`; or `messages`, whose last one is the completion; or `text` alone |
| `"pairs"` | `prompt`, `chosen`, `rejected`; or two conversations that share all but their last message |
| `"labelled"` | `prompt`, `completion` and `label`, true or false |
| `"rankings"` | `prompt` and `ranking`, a list from best to worst; a line of a pair is a ranking of two |
| `"prompts"` | `prompt`; other columns are passed to the reward |

A prompt is a text or a list of messages `{"role": ..., "content": ...}`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

Kind = Literal["completions", "pairs", "labelled", "rankings", "prompts"]
Text: TypeAlias = str | list[dict[str, str]]
"""A text, or the messages of a conversation."""

ROLES = ("system", "user", "assistant", "tool")
_COLUMNS = {
    "completions": ("prompt", "completion", "messages", "text"),
    "pairs": ("prompt", "chosen", "rejected"),
    "labelled": ("prompt", "completion", "label"),
    "rankings": ("prompt", "ranking", "chosen", "rejected"),
    "prompts": ("prompt",),
}


class Row(NamedTuple):
    """One line of a file.

    Attributes:
      line: its number, from 1.
      prompt: what is given; "" if everything is learned.
      texts: completions, best first; empty for prompts alone.
      label: of a labelled completion; None for other kinds.
      extra: the columns that the kind does not read.
    """

    line: int
    prompt: Text
    texts: tuple[Text, ...]
    label: bool | None
    extra: Mapping[str, Any]


def read_rows(path: str | os.PathLike[str], kind: Kind) -> Iterator[Row]:
    """The rows of a file, one line in memory at a time; blank lines are skipped.

    Raises:
      ValueError: names the file, the line and the column: a line that is not a JSON object, a missing column, or a
        value of the wrong type.
      OSError: the file cannot be read.

    Examples:
      >>> import pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp(), "pairs.jsonl")
      >>> _ = path.write_text('{"prompt": "1 + 1 =", "chosen": " 2", "rejected": " 3"}')
      >>> [row] = read_rows(path, "pairs")
      >>> row.line, row.prompt, row.texts
      (1, '1 + 1 =', (' 2', ' 3'))
    """
    for line, fields in enumerate(read_objects(path), start=1):
        if fields is not None:
            yield _row(fields, kind, line, f"{os.fspath(path)}, line {line}")


def read_objects(path: str | os.PathLike[str]) -> Iterator[dict[str, Any] | None]:
    """The object of every line; None for a blank line.

    Raises:
      ValueError: names the line that is not a JSON object.
      OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        for line, raw in enumerate(file, start=1):
            yield _object(raw, f"{os.fspath(path)}, line {line}") if raw.strip() else None


def texts_in(value: Any) -> Iterator[str]:
    """All texts in a JSON value, except the names of columns and the roles of messages.

    Examples:
      >>> list(texts_in({"prompt": [{"role": "user", "content": "hi"}], "chosen": "a", "label": 1}))
      ['hi', 'a']
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from texts_in(each) if name != "role" else ()
    elif isinstance(value, list):
        for each in value:
            yield from texts_in(each)


def _object(raw: bytes, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(raw)
    except UnicodeDecodeError:
        raise ValueError(f"{where}: not UTF-8 text") from None
    except (json.JSONDecodeError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise ValueError(f"{where}: not valid JSON: {reason}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: a row must be a JSON object, found {_kind_of(fields)}")
    if b"\\ud" in raw.lower():  # an escape that is half of a pair, without the other half, is no character
        for text in texts_in(fields):
            _check_encodable(text, where)
    return fields


def _check_encodable(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise ValueError(f"{where}: {half} is half of a surrogate pair, which no text may have alone") from None


def _row(fields: dict[str, Any], kind: Kind, line: int, where: str) -> Row:
    reader = {"completions": _completion, "pairs": _pair, "labelled": _labelled, "rankings": _ranking}
    found = reader[kind](fields, where) if kind in reader else (_text(fields, "prompt", where), (), None)
    prompt, texts, label = found
    extra = {name: value for name, value in fields.items() if name not in _COLUMNS[kind]}
    return Row(line, prompt, texts, label, extra)


Found: TypeAlias = tuple[Text, tuple[Text, ...], bool | None]


def _completion(fields: dict[str, Any], where: str) -> Found:
    if "messages" in fields and "prompt" not in fields:
        messages = _messages(fields["messages"], "messages", where)
        if messages[-1]["role"] != "assistant":
            raise ValueError(
                f"{where}: the last of the messages must be the assistant's, found {messages[-1]['role']!r}"
            )
        return messages[:-1], (messages[-1:],), None
    if "text" in fields and "prompt" not in fields:
        return "", (_text(fields, "text", where),), None
    return _text(fields, "prompt", where), (_text(fields, "completion", where),), None


def _pair(fields: dict[str, Any], where: str) -> Found:
    chosen, rejected = (_text(fields, name, where) for name in ("chosen", "rejected"))
    if "prompt" not in fields and isinstance(chosen, list) and isinstance(rejected, list):
        if chosen[:-1] != rejected[:-1]:
            raise ValueError(f"{where}: chosen and rejected must share all messages but the last")
        return chosen[:-1], (chosen[-1:], rejected[-1:]), None
    return _text(fields, "prompt", where), (chosen, rejected), None


def _labelled(fields: dict[str, Any], where: str) -> Found:
    prompt, texts = _text(fields, "prompt", where), (_text(fields, "completion", where),)
    label = _column(fields, "label", where)
    if label not in (0, 1):
        raise ValueError(f"{where}: label must be true or false, found {label!r}")
    return prompt, texts, bool(label)


def _ranking(fields: dict[str, Any], where: str) -> Found:
    if "ranking" not in fields and "chosen" in fields:
        return _pair(fields, where)
    ranking = _column(fields, "ranking", where)
    if not isinstance(ranking, list) or len(ranking) < 2:
        raise ValueError(f"{where}: ranking must be a list of at least two texts, found {_kind_of(ranking)}")
    texts = tuple(_text({"ranking": text}, "ranking", where) for text in ranking)
    return _text(fields, "prompt", where), texts, None


def _column(fields: dict[str, Any], name: str, where: str) -> Any:
    if name not in fields:
        raise ValueError(f"{where}: no column {name!r}; it has {', '.join(fields) or 'none'}")
    return fields[name]


def _text(fields: dict[str, Any], name: str, where: str) -> Text:
    value = _column(fields, name, where)
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return _messages(value, name, where)
    raise ValueError(f"{where}: {name} must be a text or a list of messages, found {_kind_of(value)}")


def _messages(value: Any, name: str, where: str) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: {name} must be a list of messages, found {_kind_of(value)}")
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError(f"{where}: a message of {name} must have a role and a content, found {_kind_of(message)}")
        if message.get("role") not in ROLES:
            raise ValueError(
                f"{where}: the role of a message must be {', '.join(ROLES)}, found {message.get('role')!r}"
            )
    return value


def _kind_of(value: Any) -> str:
    """A JSON value as an error shows it."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with {', '.join(value) or 'no keys'}"
    return repr(value)
