"""From files and settings to a run: what `purerl sft`, `purerl dpo` and `purerl reward` share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from purerl.hparams import check_hparams, check_positive
from purerl.lm import batching, hub, lora, reference, sharding, store, tokenizers, training
from purerl.lm.batching import Part
from purerl.lm.encoding import Encoder, Limits
from purerl.lm.hub import Model
from purerl.lm.rows import Kind
from purerl.lm.runs import Job
from purerl.lm.settings import Settings, Task
from purerl.lm.store import Report, Store
from purerl.lm.training import Optimization
from purerl.types import Params


class Rows(NamedTuple):
    """Rows for training and held-out rows, and what became of the files."""

    train: Store
    held_out: Store | None
    reports: dict[str, Report]


class Prepared(NamedTuple):
    """A run that can begin.

    Attributes:
      model: as it was read.
      encoder: its tokenizer.
      rows: the data.
      job: the run.
      padding: share of the tokens of an epoch that is padding.
    """

    model: Model
    encoder: Encoder
    rows: Rows
    job: Job
    padding: float


def prepare(task: Task, settings: Settings) -> Prepared:
    """Read the model and the data, compute the reference, and set the run up.

    Raises:
      ValueError: a file, a setting or a hyperparameter of the loss is wrong; it is named.
      OSError: a file cannot be read.
      ModuleNotFoundError: the extra is not installed.
    """
    check_hparams(task.hparams)
    _check(settings)
    model = hub.load(
        settings.model, dtype=jnp.dtype(settings.dtype), remat=settings.remat, value_head=task.value_head,
        logits_chunk=settings.logits_chunk,
    )  # fmt: skip
    mesh = sharding.make_mesh(settings.fsdp, settings.tp) if settings.fsdp * settings.tp > 1 else None
    if mesh is not None:
        model = model._replace(params=sharding.place(model.params, model.network.shardings(), mesh))
    vocab_size = model.config["vocab_size"]
    encoder = tokenizers.load_encoder(model.directory, settings.template, vocab_size)
    rows = read(task.kind, settings, encoder, vocab_size)
    bind, params, frozen = _trained(settings, model, mesh)
    train, columns = _batches(task, settings, model, encoder, rows.train, "train", mesh)
    held_out, held_out_columns = _batches(task, settings, model, encoder, rows.held_out, "eval", mesh)
    parts_per_update = -(-settings.batch_size // settings.micro_batch_size)
    each = -(-len(train(0)) // parts_per_update)  # updates per epoch
    plan = Optimization(
        settings.learning_rate, settings.num_updates or max(1, round(settings.num_epochs * each)),
        settings.warmup_updates, settings.schedule, settings.weight_decay, settings.max_grad_norm,
    )  # fmt: skip
    run = training.program(bind, task.loss_of, task.hparams, training.adamw(plan))
    job = Job(
        run, frozen, params, train, columns, held_out(None), held_out_columns, parts_per_update, plan.num_updates,
        settings.eval_every, training.learning_rate(plan), settings.training / "checkpoints",
        settings.checkpoint_seconds, settings.keep,
    )  # fmt: skip
    lengths = rows.train.prompt[:, 1:] + rows.train.texts[:, :, 1]
    padding = batching.padding_share(lengths, train(0), settings.micro_batch_size)
    return Prepared(model, encoder, rows, job, padding)


def begun(prepared: Prepared) -> Prepared:
    """The same without the parameters that it began from: the learner has its own, so their memory is free."""
    model = prepared.model._replace(params={})
    return prepared._replace(model=model, job=prepared.job._replace(params={}))


def read(kind: Kind, settings: Settings, encoder: Encoder, vocab_size: int) -> Rows:
    """The rows of the files, tokenized, of which some are held out."""
    limits = Limits(settings.max_length, settings.max_prompt_length)
    cache = settings.training / "data"
    train, report = store.build(settings.data, kind, encoder, limits, cache / "train.tokens", vocab_size)
    reports = {settings.data: report}
    if settings.eval_data is not None:
        held_out, reports[settings.eval_data] = store.build(
            settings.eval_data, kind, encoder, limits, cache / "eval.tokens", vocab_size
        )
        return Rows(train, held_out, reports)
    order = np.random.default_rng((settings.seed, len(train.line))).permutation(len(train.line))
    number = round(settings.eval_share * len(order))
    if number == 0 or number == len(order):
        return Rows(train, None, reports)
    return Rows(train.take(np.sort(order[number:])), train.take(np.sort(order[:number])), reports)


_COUNTS = (
    "max_length", "max_prompt_length", "batch_size", "micro_batch_size", "eval_every", "keep", "logits_chunk", "fsdp",
    "tp",
)  # fmt: skip
_NUMBERS = {
    "eval_share": 0.9, "learning_rate": math.inf, "num_epochs": math.inf, "warmup_updates": math.inf,
    "weight_decay": math.inf, "max_grad_norm": math.inf, "checkpoint_seconds": math.inf,
}  # fmt: skip
"""The largest value of each; the least is 0."""


def _check(settings: Settings) -> None:
    check_positive(**{name: getattr(settings, name) for name in _COUNTS})
    for name, most in _NUMBERS.items():
        if not 0 <= getattr(settings, name) <= most:
            raise ValueError(f"{name} = {getattr(settings, name)} is outside [0, {most}]")
    if settings.num_updates is not None:
        check_positive(num_updates=settings.num_updates)
    if settings.max_prompt_length >= settings.max_length:
        raise ValueError(
            f"max_prompt_length = {settings.max_prompt_length} must be less than max_length = {settings.max_length}"
        )
    if min(settings.micro_batch_size, settings.batch_size) % settings.fsdp:
        raise ValueError(f"micro_batch_size = {settings.micro_batch_size} is not a multiple of fsdp = {settings.fsdp}")
    if settings.batch_size % settings.micro_batch_size and settings.batch_size > settings.micro_batch_size:
        raise ValueError(
            f"batch_size = {settings.batch_size} is not a multiple of micro_batch_size = {settings.micro_batch_size}"
        )


def _trained(settings: Settings, model: Model, mesh: Mesh | None) -> tuple[training.Bind, Params, Params]:
    """The network of the trained parameters, those, and the frozen ones."""
    if not settings.lora_rank:
        return training.full(model.network), model.params, ()
    key = jax.random.key(settings.seed)
    factors = lora.init(key, model.params, settings.lora_rank, settings.lora_targets)
    factors = factors if mesh is None else sharding.replicate(factors, mesh)
    return training.low_rank(model.network, settings.scale), factors, model.params


def _batches(
    task: Task,
    settings: Settings,
    model: Model,
    encoder: Encoder,
    rows: Store | None,
    name: str,
    mesh: Mesh | None,
) -> tuple[Callable[[int | None], list[Part]], Callable[[Part], Mapping[str, Any]]]:
    """From the number of an epoch (None: the rows in order) to its parts, and from a part to its columns."""
    if rows is None:
        return lambda epoch: [], lambda part: {}
    lengths, size = rows.lengths, min(settings.micro_batch_size, settings.batch_size)
    widths = batching.bucket_widths(lengths)

    def parts(epoch: int | None) -> list[Part]:
        seed = None if epoch is None else settings.seed
        return batching.parts(lengths, widths, size, seed=seed, epoch=epoch or 0)

    def texts(part: Part) -> dict[str, np.ndarray]:
        return store.assemble(rows, part.rows, part.width, size, encoder.pad_id)

    def placed(batch: Mapping[str, Any]) -> Mapping[str, Any]:
        return batch if mesh is None else sharding.spread(batch, mesh)

    log_probs = None
    if task.reference:
        files = [Path(settings.data), *([Path(settings.eval_data)] if settings.eval_data else [])]
        shown = ("template", "dtype", "max_length", "max_prompt_length", "seed", "eval_share")
        kept = {field: getattr(settings, field) for field in shown}
        fingerprint = reference.digest(*files, *sorted(model.directory.glob("*.safetensors"))) + json.dumps(kept)
        file = settings.training / "data" / f"{name}.reference.npy"
        shape = rows.texts.shape[:2]
        log_probs = reference.reference_log_probs(
            model.network, model.params, parts(None), lambda part: placed(texts(part)), shape, file, fingerprint
        )

    def columns(part: Part) -> Mapping[str, Any]:
        batch: dict[str, np.ndarray] = texts(part)
        if log_probs is not None:
            batch["ref_log_prob"] = _filled(log_probs, part.rows, size)
        return placed(_of_kind(task.kind, batch, rows, part, size))

    return parts, columns


def _of_kind(kind: Kind, batch: dict[str, np.ndarray], rows: Store, part: Part, size: int) -> dict[str, np.ndarray]:
    """The columns as the losses of that kind of row read them: one text a row, or ranked ones."""
    if kind == "completions":
        return {name: column[:, 0] for name, column in batch.items()}
    if kind != "labelled":
        return batch
    own = {name: column[:, 0] for name, column in batch.items()}
    other = {f"kl_{name}": column[:, 1] for name, column in batch.items()}
    return own | other | {"label": _filled(rows.label, part.rows, size)}


def _filled(column: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """Entries of some rows, and zeros for the rows that are missing in an incomplete part."""
    out = np.zeros((size, *column.shape[1:]), column.dtype)
    out[: len(rows)] = column[rows]
    return out


def finish(prepared: Prepared, settings: Settings, learner: training.Learner) -> Params:
    """Write the trained model to `settings.output`, LoRA merged, and return its parameters."""
    params = merged(prepared, settings, learner)
    model = prepared.model
    hub.save(settings.output, params, model.config, model.directory, jnp.dtype(settings.save_dtype))
    return params


def merged(prepared: Prepared, settings: Settings, learner: training.Learner) -> Params:
    """The whole model's parameters."""
    if not settings.lora_rank:
        return learner.params
    return jax.jit(lora.merge)(prepared.job.frozen, learner.params, settings.scale)


def save_reports(directory: Path, reports: Mapping[str, Report]) -> None:
    """Write what became of the rows to `data/report.json` in a run's directory, with all lines that were dropped."""
    content = {name: report._asdict() for name, report in reports.items()}
    file = directory / "data" / "report.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")


def summary(columns: Mapping[str, np.ndarray], after: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Every metric of held-out rows before the first update and after the last.

    Args:
      columns: of `metrics.csv`.
      after: metrics at the end, by names that begin with `eval/`.

    Examples:
      >>> summary({"eval/total": np.array([2.0, np.nan])}, {"eval/total": 1.0})
      {'total': (2.0, 1.0)}
    """
    first = {name: columns[name][~np.isnan(columns[name])] for name in after if name in columns}
    return {name.removeprefix("eval/"): (float(x[0]), after[name]) for name, x in first.items() if x.size}
