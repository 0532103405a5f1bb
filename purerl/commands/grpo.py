"""`purerl grpo`: reinforce a language model by a reward of its completions."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from purerl import checkpoint
from purerl.commands import console, finetuning
from purerl.commands.options import UsageError, usage_errors
from purerl.commands.options.grpo import Options
from purerl.lm import hub, lora, pictures, reinforcement, runs, sharding, store, tokenizers, training
from purerl.lm.encoding import Encoder, Limits
from purerl.lm.finetuning import save_reports
from purerl.lm.generation import Sampling
from purerl.lm.hub import Model
from purerl.lm.models import VALUE_HEAD
from purerl.lm.reinforcement import Answers, Evaluation, Question, Reward
from purerl.lm.store import Report
from purerl.presets import references
from purerl.rlhf.policy import PolicyState, RLHFHparams
from purerl.text import format_number
from purerl.types import Params

_EVAL_COMPLETIONS = 4


class Job(NamedTuple):
    """A run that can begin."""

    options: Options
    output: Path
    model: Model
    encoder: Encoder
    questions: list[Question]
    report: Report
    rewards: list[Reward]
    frozen: Params
    scale: float | None
    state: PolicyState
    mesh: Mesh | None

    @property
    def width(self) -> int:
        """Columns of the prompts."""
        return max(len(question.ids) for question in self.questions)

    def policy(self, params: Params) -> Params:
        """The whole model of trained parameters."""
        return reinforcement.merged(params, self.frozen, self.scale)


def run(options: Options) -> None:
    """Train, and save the model.

    Raises:
      UsageError: something about files, rewards or settings is wrong.
      SystemExit: with 130 after Ctrl-C, once the run is saved.
    """
    finetuning.check_required(options, "the file of prompts, such as prompts.jsonl")
    if not options.reward:
        raise UsageError("--reward is missing: give module:function, or the directory of a reward model")
    assert options.run.output is not None
    with usage_errors():
        job = _prepare(options, options.run.output)
    wanted = finetuning.description("grpo", options, [options.data])
    with finetuning.claimed(job.output, wanted, options.run.resume):
        reports = {options.data: job.report}
        save_reports(job.output / "training", reports)
        finetuning.say_reports(reports)
        before = _evaluate(job, job.state.params)
        state = _train(job)
        after = _evaluate(job, state.params)
        params = {name: leaf for name, leaf in job.policy(state.params).items() if name != VALUE_HEAD}
        hub.save(job.output, params, job.model.config, job.model.directory, jnp.dtype(options.run.save_dtype))
        _conclude(job, before, after)


def _prepare(options: Options, output: Path) -> Job:
    if options.group_size < 2 and options.algorithm != "ppo":
        raise ValueError(f"--group-size {options.group_size}: {options.algorithm} compares at least 2 completions")
    completions = options.num_prompts * options.group_size
    if completions % options.num_minibatches:
        raise ValueError(
            f"--num-minibatches {options.num_minibatches} does not divide the completions of an update, "
            f"--num-prompts {options.num_prompts} x --group-size {options.group_size}"
        )
    about = options.model
    model = hub.load(
        str(about.model), dtype=jnp.dtype(about.dtype), remat=about.remat, logits_chunk=about.logits_chunk,
        value_head=options.algorithm == "ppo",
    )  # fmt: skip
    encoder = tokenizers.load_encoder(model.directory, about.template, model.config["vocab_size"])
    prompts, report = store.prompts(options.data, encoder, _limits(options))
    questions = reinforcement.with_all_columns([Question(*found) for found in prompts])
    if len(questions) < options.num_prompts:
        raise ValueError(f"{options.data} has {len(questions)} prompts, fewer than --num-prompts {options.num_prompts}")
    rewards = [_reward(text, options) for text in options.reward]
    hparams = RLHFHparams(
        options.learning_rate, options.beta, options.clip_epsilon, max_grad_norm=options.max_grad_norm
    )
    mesh = _mesh(options)
    if mesh is not None:
        model = model._replace(params=sharding.place(model.params, model.network.shardings(), mesh))
    params, frozen, scale = model.params, (), None
    if options.lora.lora_rank:
        key = jax.random.key(options.run.seed)
        alpha = options.lora.lora_alpha
        scale = 2.0 if alpha is None else alpha / options.lora.lora_rank
        params, frozen = lora.init(key, model.params, options.lora.lora_rank, options.lora.lora_targets), model.params
        params = params if mesh is None else sharding.replicate(params, mesh)
    state = reinforcement.begin(params, hparams)
    return Job(options, output, model, encoder, questions, report, rewards, frozen, scale, state, mesh)


def _mesh(options: Options) -> Mesh | None:
    fsdp, tp = options.devices.fsdp, options.devices.tp
    if fsdp * tp == 1:
        return None
    completions = options.num_prompts * options.group_size
    if completions % fsdp:
        raise ValueError(
            f"--fsdp {fsdp} does not divide the completions of an update, --num-prompts {options.num_prompts} x "
            f"--group-size {options.group_size}"
        )
    return sharding.make_mesh(fsdp, tp)


def _reward(text: str, options: Options) -> Reward:
    if references.is_reference(text):
        found = references.load(text)
        if not callable(found):
            raise ValueError(f"--reward {text}: not a function")
        return found
    if not Path(text).is_dir():
        raise ValueError(f"--reward {text}: neither module:function nor the directory of a reward model")
    model = hub.load(text, value_head=True)
    if "SequenceClassification" not in str(model.config.get("architectures")):
        raise ValueError(f"--reward {text}: not a reward model; purerl reward trains one")
    encoder = tokenizers.load_encoder(model.directory, options.model.template, model.config["vocab_size"])
    return reinforcement.model_reward(model, encoder, _limits(options))


def _limits(options: Options) -> Limits:
    """The longest prompts, and texts with their completions."""
    return Limits(options.max_prompt_length + options.max_tokens, options.max_prompt_length)


def _train(job: Job) -> PolicyState:
    options = job.options
    root = job.output / "training"
    newest = checkpoint.latest(root / "checkpoints")
    state = job.state if newest is None else checkpoint.restore(newest, jax.tree.map(runs.like, job.state))
    done = 0 if newest is None else int(newest.name)
    network = job.model.network
    bind = training.full(network) if job.scale is None else training.low_rank(network, job.scale)
    update = reinforcement.updater(bind, options.algorithm, options.num_epochs, options.num_minibatches)
    sampling = Sampling(options.max_tokens)
    writer = finetuning.writer_of(job.output, options, done)
    saved = time.monotonic()
    with (
        console.stop_signals() as stopped,
        console.progress(options.num_updates, done=done, unit="updates") as show,
    ):
        while done < options.num_updates and not stopped():
            key = jax.random.fold_in(jax.random.key(options.run.seed), done)
            generate_key, update_key = jax.random.split(key)
            asked = [each for each in _asked(job, done) for _ in range(options.group_size)]
            answers = reinforcement.answer(
                generate_key, network, job.policy(state.params), asked, job.encoder, sampling, job.width, job.mesh
            )
            reward = _score(job, answers)
            data = reinforcement.trajectory(answers, reward, options.group_size)
            data = data if job.mesh is None else reinforcement.spread(data, job.mesh)
            state, metrics = update(update_key, state, job.frozen, data)
            row = {name: float(value) for name, value in metrics.items()}
            row["length"] = float(answers.found.mask.sum(axis=1).mean())
            done += 1
            writer.write(done, row)
            show(done, f"reward {format_number(row['rlhf/reward'])}  KL {format_number(row['rlhf/kl'])}")
            if time.monotonic() - saved > options.run.checkpoint_seconds:
                _save(job, done, state)
                saved = time.monotonic()
    _save(job, done, state)
    writer.close()
    if done < options.num_updates:
        console.say(f"Saved. Resume with the same command and --resume: {job.output}")
        raise SystemExit(130)
    return state


def _score(job: Job, answers: Answers) -> np.ndarray:
    with usage_errors():
        return reinforcement.score(job.rewards, answers)


def _asked(job: Job, update: int) -> list[Question]:
    """The prompts of an update: all of them in a new order in every pass."""
    number, size = len(job.questions), job.options.num_prompts
    each = number // size  # updates per pass
    order = np.random.default_rng((job.options.run.seed, update // each)).permutation(number)
    start = update % each * size
    return [job.questions[i] for i in order[start : start + size]]


def _save(job: Job, done: int, state: PolicyState) -> None:
    checkpoint.save_step(job.output / "training" / "checkpoints", done, state, keep=job.options.run.keep)


def _evaluate(job: Job, params: Params) -> Evaluation | None:
    number = min(job.options.eval_prompts, len(job.questions))
    if number == 0:
        return None
    asked = [each for each in job.questions[:number] for _ in range(_EVAL_COMPLETIONS)]
    key = jax.random.fold_in(jax.random.key(job.options.run.seed), 2**31 - 1)
    network, sampling = job.model.network, Sampling(job.options.max_tokens)
    answers = reinforcement.answer(key, network, job.policy(params), asked, job.encoder, sampling, job.width, job.mesh)
    reward = _score(job, answers)
    return reinforcement.evaluate(answers, reward, network, job.model.params, _EVAL_COMPLETIONS)


def _conclude(job: Job, before: Evaluation | None, after: Evaluation | None) -> None:
    root = job.output / "training"
    if before is not None and after is not None:
        names = ("reward", "kl", "distinct_1", "distinct_2", "length")
        rows = [(name, *(format_number(getattr(each, name)) for each in (before, after))) for name in names]
        console.print_table(f"{_EVAL_COMPLETIONS} completions per prompt", ["", "before", "after"], rows)
        for (prompt, old), (_, new) in zip(before.samples, after.samples):
            console.say(f"{_shown(prompt)}\n  before: {old.strip()}\n  after:  {new.strip()}")
        results: dict[str, Any] = {"before": before._asdict(), "after": after._asdict()}
        (root / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
    columns = pictures.read_columns(root / "metrics.csv")
    pictures.reinforcement_curves(columns).savefig(root / "curves.png", dpi=150)
    console.say(f"Saved the model: {job.output}")


def _shown(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
