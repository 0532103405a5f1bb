"""From rows of text to the arrays that the agents take; see `rlhf.rows` for the columns that rows have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from purerl.rlhf.rows import Layout, Rows, refuse_problems


def encode_completions(rows: Rows, layout: Layout) -> dict[str, np.ndarray]:
    """Columns `prompt`, `completion` to one text per row: `tokens` int32, `mask`, `completion` bool, each [B, W].

    Raises:
      ValueError: malformed rows, with their indices.

    Examples:
      >>> from purerl.rlhf import ByteTokenizer
      >>> layout = Layout(ByteTokenizer(), prompt_length=3, max_length=3, eos_id=256, pad_id=257)
      >>> data = encode_completions({"prompt": ["ab"], "completion": ["c"]}, layout)
      >>> data["tokens"].tolist(), data["completion"].astype(int).tolist()
      ([[257, 97, 98, 99, 256, 257]], [[0, 0, 0, 1, 1, 0]])
    """
    refuse_problems(rows, layout)
    return _encode(rows["prompt"], rows["completion"], layout)


def encode_labelled(rows: Rows, layout: Layout) -> dict[str, np.ndarray]:
    """Columns `prompt`, `completion`, `label` for `kto`: as `encode_completions`, with `label` and mismatched `kl_*`.

    Row i of `kl_*` is prompt i with a completion of another prompt, whose text is not the row's own; see
    `mismatched_rows`.

    Raises:
      ValueError: malformed rows, with their indices; no column `label`; no completion of another prompt.
    """
    if "label" not in rows:
        raise ValueError(f"the data have no column 'label'; they have {', '.join(rows)}")
    data = encode_completions(rows, layout)
    others = mismatched_rows(rows["prompt"], rows["completion"])
    mismatched = _encode(rows["prompt"], [rows["completion"][i] for i in others], layout)
    label = np.asarray(rows["label"]).astype(bool)
    return data | {"label": label} | {f"kl_{name}": column for name, column in mismatched.items()}


def mismatched_rows(prompts: Sequence[str], completions: Sequence[str]) -> list[int]:
    """For each row, a row of another prompt whose completion differs from the row's own.

    With rows sorted by prompt, row i takes the one m places further on, m being the size of the largest group of equal
    prompts. Unless one prompt has more than half of the rows every completion is used once. If that text equals the
    row's own, the next one that does not is taken.

    Raises:
      ValueError: a row has no such partner.

    Examples:
      >>> mismatched_rows(["q1", "q1", "q2", "q2"], ["good1", "bad1", "good2", "bad2"])
      [2, 3, 0, 1]
    """
    first: dict[str, int] = {}
    number = [first.setdefault(prompt, i) for i, prompt in enumerate(prompts)]
    order = sorted(range(len(prompts)), key=number.__getitem__)  # equal prompts side by side
    asked, written = [prompts[i] for i in order], [completions[i] for i in order]
    next_prompt, next_text = _steps_to_another(asked), _steps_to_another(written)
    largest = int(max(np.bincount(number))) if number else 0
    partners = [0] * len(order)
    for place, row in enumerate(order):
        steps = largest
        while steps < 2 * len(order):
            other = (place + steps) % len(order)
            if written[other] == written[place]:
                steps += next_text[other]
            elif asked[other] == asked[place]:
                steps += next_prompt[other]
            else:
                break
        else:
            raise ValueError(
                f"row {row} has no mismatched completion: KTO's reference point needs, for every row, a completion of "
                "another prompt with another text"
            )
        partners[row] = order[other]
    return partners


def _steps_to_another(values: Sequence[str]) -> list[int]:
    """For each place of a cycle, the steps to the next place with another value; twice its length if there is none."""
    size = len(values)
    steps = [2 * size] * size
    for place in reversed(range(2 * size)):  # twice around, so that runs over the end are counted
        here, after = place % size, (place + 1) % size
        steps[here] = 1 if values[after] != values[here] else min(steps[after] + 1, 2 * size)
    return steps


def encode_pairs(rows: Rows, layout: Layout) -> dict[str, np.ndarray]:
    """Columns `prompt`, `chosen`, `rejected` to ranked texts: `tokens`, `mask`, `completion`, each [B, 2, W].

    Raises:
      ValueError: malformed rows, with their indices.
    """
    refuse_problems(rows, layout)
    chosen, rejected = (_encode(rows["prompt"], rows[name], layout) for name in ("chosen", "rejected"))
    return {name: np.stack([chosen[name], rejected[name]], axis=1) for name in chosen}


def encode_rankings(rows: Rows, layout: Layout) -> dict[str, np.ndarray]:
    """Columns `prompt`, `ranking` (texts from best to worst) to `tokens`, `mask`, `completion`, each [B, K, W].

    K is the length of the longest ranking. Shorter ones end in absent texts, which are all padding: their masks are
    false throughout.

    Raises:
      ValueError: malformed rows, with their indices.

    Examples:
      >>> from purerl.rlhf import ByteTokenizer
      >>> layout = Layout(ByteTokenizer(), prompt_length=1, max_length=2, eos_id=256, pad_id=257)
      >>> rows = {"prompt": ["p", "q"], "ranking": [["a", "b", "c"], ["d", "e"]]}
      >>> data = encode_rankings(rows, layout)
      >>> data["tokens"].shape, data["mask"].any(axis=-1).tolist()
      ((2, 3, 3), [[True, True, True], [True, True, False]])
    """
    refuse_problems(rows, layout)
    longest = max((len(texts) for texts in rows["ranking"]), default=0)
    slots = [(i, k) for i, texts in enumerate(rows["ranking"]) for k in range(len(texts))]
    written = _encode([rows["prompt"][i] for i, _ in slots], [rows["ranking"][i][k] for i, k in slots], layout)
    shape = (len(rows["prompt"]), longest, layout.prompt_length + layout.max_length)
    out = {"tokens": np.full(shape, layout.pad_id, np.int32), "mask": np.zeros(shape, bool)}
    out["completion"] = np.zeros(shape, bool)
    for name, column in out.items():
        column[tuple(np.array(slots, int).reshape(-1, 2).T)] = written[name]
    return out


def encode_prompts(prompts: Sequence[str], layout: Layout) -> np.ndarray:
    """[P, prompt_length] int32, padded on the left, for `token_env` and `generate`.

    Raises:
      ValueError: a prompt is too long, or begins with the padding token.
    """
    out = np.full((len(prompts), layout.prompt_length), layout.pad_id, np.int32)
    for i, prompt in enumerate(prompts):
        ids = layout.tokenizer.encode(prompt)
        if len(ids) > layout.prompt_length:
            raise ValueError(f"prompt {i} has {len(ids)} tokens, more than {layout.prompt_length}")
        if len(ids) and ids[0] == layout.pad_id:
            raise ValueError(f"prompt {i} begins with the padding token {layout.pad_id}")
        out[i, layout.prompt_length - len(ids) :] = ids
    return out


def _encode(prompts: Sequence[str], completions: Sequence[str], layout: Layout) -> dict[str, np.ndarray]:
    questions = encode_prompts(prompts, layout)  # [B, L]
    answers = np.full((len(prompts), layout.max_length), layout.pad_id, np.int32)  # [B, T]
    lengths = np.zeros(len(prompts), np.int64)
    for i, text in enumerate(completions):
        ids = list(layout.tokenizer.encode(text)) + [layout.eos_id] * (layout.eos_id >= 0)
        answers[i, : len(ids)] = ids
        lengths[i] = len(ids)
    asked = np.cumsum(questions != layout.pad_id, axis=1) > 0  # padding is on the left, whatever token it is
    written = np.arange(layout.max_length) < lengths[:, None]
    return {
        "tokens": np.concatenate([questions, answers], axis=1),
        "mask": np.concatenate([asked, written], axis=1),
        "completion": np.concatenate([np.zeros(questions.shape, bool), written], axis=1),
    }
