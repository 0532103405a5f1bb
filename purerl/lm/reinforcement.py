"""Reinforcement of a language model whose rewards are computed on the host: generate, score, update.

The agents are `rlhf.grpo`, `rlhf.rloo` and `rlhf.ppo`; this is the loop around their `update` where a reward is any
function of texts. Rewards that are pure functions of tokens need none of it: see `rlhf.token_rollout`.
"""

from __future__ import annotations

import functools
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from purerl import rlhf
from purerl.hparams import cast
from purerl.lm import generation, lora, sharding, store
from purerl.lm.encoding import Encoder, Limits, cut, encode_row
from purerl.lm.generation import Sampling
from purerl.lm.hub import Model
from purerl.lm.rows import Row
from purerl.lm.training import Bind
from purerl.rlhf.columns import log_probs
from purerl.rlhf.diversity import measure
from purerl.rlhf.generation import Completions
from purerl.rlhf.policy import PolicyState, RLHFHparams, policy_state
from purerl.rlhf.reward_models import rewards
from purerl.rlhf.rollouts import Prompt
from purerl.types import Agent, Key, Metrics, Network, Params, Transition


class Reward(Protocol):
    """A reward of texts."""

    def __call__(self, prompts: list[Any], completions: list[str], **columns: list[Any]) -> Sequence[float]:
        """A number per completion; `prompts` as in the file, `columns` the other columns of its rows."""


class Question(NamedTuple):
    """A prompt: its row of the file and its ids."""

    row: Row
    ids: list[int]


def with_all_columns(questions: Sequence[Question]) -> list[Question]:
    """The questions with the columns of all of their rows, None where a row lacks one.

    Examples:
      >>> asked = [Question(Row(i, "q", (), None, extra), []) for i, extra in enumerate([{}, {"answer": 4}])]
      >>> [question.row.extra for question in with_all_columns(asked)]
      [{'answer': None}, {'answer': 4}]
    """
    names = list(dict.fromkeys(name for question in questions for name in question.row.extra))
    rows = [each.row._replace(extra={name: each.row.extra.get(name) for name in names}) for each in questions]
    return [each._replace(row=row) for each, row in zip(questions, rows)]


class Answers(NamedTuple):
    """Completions of some prompts.

    Attributes:
      questions: of each completion.
      tokens, mask: [N, L] the prompts, padded on the left.
      found: the completions [N, T].
      texts: the same as texts.
    """

    questions: list[Question]
    tokens: np.ndarray
    mask: np.ndarray
    found: Completions
    texts: list[str]


ALGORITHMS: dict[str, Callable[..., Agent]] = {"grpo": rlhf.grpo, "rloo": rlhf.rloo, "ppo": rlhf.ppo}


def updater(
    bind: Bind, algorithm: str, num_epochs: int = 1, num_minibatches: int = 1
) -> Callable[[Key, PolicyState, Params, Transition], tuple[PolicyState, Metrics]]:
    """The compiled `update` of an agent: `(key, state, frozen, trajectory) -> (state, metrics)`; the state is donated.

    Args:
      bind: from frozen parameters to a network of the trained ones, see `training.full` and `training.low_rank`.
      algorithm: one of `ALGORITHMS`.
      num_epochs, num_minibatches: as the agents have them.
    """

    @functools.partial(jax.jit, donate_argnums=1)
    def update(key: Key, state: PolicyState, frozen: Params, data: Transition) -> tuple[PolicyState, Metrics]:
        agent = ALGORITHMS[algorithm](bind(frozen), num_epochs=num_epochs, num_minibatches=num_minibatches)
        return agent.update(key, state, data)

    return update


def begin(params: Params, hparams: RLHFHparams) -> PolicyState:
    """The state before the first update, whose reference is a copy of the policy. No two leaves share a buffer."""
    return jax.tree.map(jnp.copy, policy_state(cast(hparams), params, params))


def answer(
    key: Key,
    network: Network,
    params: Params,
    questions: Sequence[Question],
    encoder: Encoder,
    sampling: Sampling,
    width: int,
    mesh: Mesh | None = None,
) -> Answers:
    """A completion of each question.

    Args:
      key: typed key.
      network, params: the policy, LoRA merged.
      questions: repeated for several completions of one.
      encoder: the policy's tokenizer.
      sampling: how tokens are drawn.
      width: L, columns of the prompts.
      mesh: of the parameters; the prompts are split over its axis "fsdp" if that divides them.
    """
    tokens, mask = store.left_padded([question.ids for question in questions], width, encoder.pad_id)
    rows = tokens, mask
    if mesh is not None and len(tokens) % mesh.shape[sharding.FSDP] == 0:
        rows = sharding.spread(rows, mesh)
    found = jax.device_get(generation.complete(key, network, params, *rows, encoder, sampling))
    return Answers(list(questions), tokens, mask, found, generation.texts_of(found, encoder))


def score(functions: Sequence[Reward], answers: Answers) -> np.ndarray:
    """[N] float32, the sum of the rewards of each completion.

    The functions get the columns of all rows, with None where a row lacks one.

    Raises:
      ValueError: a function fails, or returns another number of rewards than there are completions, or one that is not
        finite.
    """
    asked = [question.row for question in with_all_columns(answers.questions)]
    columns = {name: [row.extra.get(name) for row in asked] for name in asked[0].extra}
    total = np.zeros(len(asked))
    for function in functions:
        name = getattr(function, "__name__", "the reward")
        try:
            found = list(function([row.prompt for row in asked], list(answers.texts), **columns))
        except Exception as error:  # it is the user's, and may fail in any way
            where = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{type(error).__name__}: {error} ({where.filename}, line {where.lineno})"
            raise ValueError(f"the reward {name} failed: {problem}") from error
        if len(found) != len(asked):
            raise ValueError(f"{name} returned {len(found)} rewards for {len(asked)} completions")
        for text, value in zip(answers.texts, found):
            if not isinstance(value, int | float | np.number) or not math.isfinite(value):
                raise ValueError(f"{name} returned {value!r} for the completion {text!r}: not a finite number")
        total += np.asarray(found, float)
    return total.astype(np.float32)


def trajectory(answers: Answers, reward: np.ndarray, group_size: int) -> Transition:
    """The completions as the agents take them, `group_size` neighbours being of one prompt."""
    found, number = answers.found, len(answers.questions)
    columns = np.arange(found.mask.shape[1])
    last = np.where(found.mask, columns, 0).max(axis=1, keepdims=True)
    at_end = columns[None] == last  # [N, T]
    group = np.repeat(np.arange(number, dtype=np.int32).reshape(-1, group_size), group_size, axis=0)
    data = Transition(
        obs=(),
        action=found.tokens.T,  # [N, T] -> [T, N]
        reward=jnp.asarray(np.where(at_end, reward[:, None], 0.0).T, jnp.float32),
        terminated=at_end.T,
        truncated=np.zeros_like(at_end.T),
        next_obs=(),
        aux={"log_prob": found.log_prob.T, "written": found.mask.T},
        memory=Prompt(*map(jnp.asarray, (answers.tokens, answers.mask, group))),
        mask=found.mask.T.astype(np.float32),
    )
    return jax.tree.map(jnp.asarray, data)


def spread(data: Transition, mesh: Mesh) -> Transition:
    """A trajectory whose texts are split over the axis "fsdp": `memory` [N, ...] and everything else [T, N]."""
    over_time = jax.device_put(data._replace(memory=()), NamedSharding(mesh, PartitionSpec(None, sharding.FSDP)))
    return over_time._replace(memory=sharding.spread(data.memory, mesh))


class Evaluation(NamedTuple):
    """A policy on fixed prompts.

    Attributes:
      reward: mean reward.
      kl: mean over completions of log π - log π_ref, nats.
      distinct_1, distinct_2: different tokens, and pairs of neighbours, among the completions of a prompt.
      length: mean tokens of a completion.
      samples: some prompts with a completion.
    """

    reward: float
    kl: float
    distinct_1: float
    distinct_2: float
    length: float
    samples: list[tuple[Any, str]]


def evaluate(
    answers: Answers, reward: np.ndarray, network: Network, ref_params: Params, num_completions: int
) -> Evaluation:
    """Reward, KL to the reference and diversity of completions, `num_completions` neighbours being of one prompt."""
    found = answers.found
    whole = {
        "tokens": np.concatenate([answers.tokens, found.tokens], axis=1),
        "mask": np.concatenate([answers.mask, found.mask], axis=1),
        "completion": np.concatenate([np.zeros_like(answers.mask), found.mask], axis=1),
    }
    own = np.asarray(found.log_prob).sum(axis=1)
    reference = np.asarray(_log_probs(ref_params, whole, network))
    shape = (-1, num_completions)
    tokens, mask = (np.asarray(x).reshape(*shape, x.shape[1]) for x in (found.tokens, found.mask))  # [P, K, T]
    diversity = measure(tokens, mask, own.reshape(shape))
    samples = [(answers.questions[i].row.prompt, answers.texts[i]) for i in range(0, len(own), num_completions)][:3]
    return Evaluation(
        float(reward.mean()), float((own - reference).mean()), diversity.distinct_1, diversity.distinct_2,
        float(found.mask.sum(axis=1).mean()), samples,
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames="network")
def _log_probs(params: Params, data: Mapping[str, jax.Array], network: Network) -> jax.Array:
    return log_probs(network, params, data)


def model_reward(model: Model, encoder: Encoder, limits: Limits, batch_size: int = 32) -> Reward:
    """A trained reward model as a reward.

    Args:
      model: read with a head of values.
      encoder: its tokenizer, which may differ from the policy's.
      limits: longest texts in its tokens; a longer prompt loses its beginning, a longer completion its end.
      batch_size: texts scored at once.
    """

    @jax.jit
    def scores(params: Params, data: Mapping[str, jax.Array]) -> jax.Array:
        return rewards(model.network, params, data)

    def reward_model(prompts: list[Any], completions: list[str], **columns: list[Any]) -> list[float]:
        encoded = [encode_row(Row(0, p, (c,), None, {}), encoder) for p, c in zip(prompts, completions)]
        ids = [[*each.prompt, *each.texts[0]] for each in (cut(row, limits)[0] for row in encoded)]
        out: list[float] = []
        for i in range(0, len(ids), batch_size):
            part = ids[i : i + batch_size]
            part = part + [part[0]] * (batch_size - len(part))
            tokens, mask = store.left_padded(part, limits.max_length, encoder.pad_id)
            out += np.asarray(scores(model.params, {"tokens": tokens, "mask": mask})).tolist()
        return out[: len(ids)]

    return reward_model


def merged(params: Params, frozen: Params, scale: float | None) -> Params:
    """The whole model's parameters: the trained ones, or the frozen ones with LoRA factors merged."""
    return params if scale is None else _merge(frozen, params, scale)


_merge = jax.jit(lora.merge)
