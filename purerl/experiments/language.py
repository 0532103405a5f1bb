"""A synthetic language with a true reward, and the whole pipeline on it: SFT, reward model, RL, DPO, best-of-n.

Texts are letters from a Markov chain with an end; the true reward of a completion is a sum over its letters and its
pairs of neighbours. So data are free, the labeller's accuracy is known, and the gain of each method can be measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl import loops
from purerl.combinators.minibatches import with_minibatches
from purerl.rlhf import columns, direct, diversity, group_policy, policy, reward_models, supervised
from purerl.rlhf.columns import Columns
from purerl.rlhf.generation import Completions, best_of_n, generate
from purerl.rlhf.rollouts import token_rollout
from purerl.rlhf.supervised import LearnerHparams
from purerl.rlhf.tokens import token_env
from purerl.rlhf.transformer import LanguageModel, transformer
from purerl.types import Agent, Key, Metrics, Params, State

LETTERS, EOS, PAD, VOCAB = 16, 16, 17, 18


class Language(NamedTuple):
    """The language as data: `chain` [18, 18] log-probabilities of the next token, and the true reward's terms."""

    chain: jax.Array
    unary: jax.Array
    pairwise: jax.Array


class Sizes(NamedTuple):
    """How much of everything; the defaults take a few minutes on two cores."""

    prompt_length: int = 4
    max_length: int = 12
    width: int = 48
    depth: int = 2
    num_texts: int = 8_000
    sft_updates: int = 300
    num_pairs: int = 15_000
    reward_updates: int = 400
    rl_updates: int = 60
    rl_texts: int = 256
    direct_updates: int = 300
    batch_size: int = 128
    num_evaluated: int = 1_024
    samples_per_prompt: int = 16


def quick(sizes: Sizes) -> Sizes:
    """A tenth of the data and of the updates, and a smaller network: a trial run."""
    fewer = {
        name: max(value // 10, 8) for name, value in sizes._asdict().items() if "num_" in name or "updates" in name
    }
    return sizes._replace(**fewer, width=16, depth=1, rl_texts=64, batch_size=64)


class Point(NamedTuple):
    """Result of a method: means over fresh completions of held-out prompts.

    Attributes:
      method: its name.
      true_reward, proxy_reward: mean true and learned reward.
      kl: KL(π ‖ SFT), nats.
      diversity: of completions of the same prompt; None for best-of-n, which is not a policy.
    """

    method: str
    true_reward: float
    proxy_reward: float
    kl: float
    diversity: diversity.Diversity | None = None


def language(key: jax.Array) -> Language:
    """A random language: sharp transitions, an end with probability 0.06, reward terms of deviation 0.9 per letter."""
    chain_key, unary_key, pair_key = jax.random.split(key, 3)
    logits = 1.5 * jax.random.normal(chain_key, (LETTERS, LETTERS))
    letters = jax.nn.log_softmax(logits) + jnp.log(0.94)
    rows = jnp.concatenate([letters, jnp.full((LETTERS, 1), jnp.log(0.06)), jnp.full((LETTERS, 1), -jnp.inf)], axis=1)
    chain = jnp.concatenate([rows, jnp.zeros((2, VOCAB))])
    unary = 0.8 * jax.random.normal(unary_key, (LETTERS,))
    pairwise = 0.4 * jax.random.normal(pair_key, (LETTERS, LETTERS))
    return Language(chain, jnp.pad(unary, (0, 2)), jnp.pad(pairwise, ((0, 2), (0, 2))))


def true_reward(lang: Language, tokens: jax.Array, completion: jax.Array) -> jax.Array:
    """Σ unary[y_t] + Σ pairwise[y_{t-1}, y_t] over the completion [W]; the prompt's last letter is a neighbour too."""
    pairs = lang.pairwise[tokens[:-1], tokens[1:]] * completion[1:]
    return jnp.sum(lang.unary[tokens] * completion) + jnp.sum(pairs)


def prompts(key: Key, lang: Language, rows: int, length: int) -> jax.Array:
    """[rows, length] int32 letters of the chain, which does not end within a prompt."""
    logits = lang.chain[:, :LETTERS]

    def step(letter: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.random.categorical(key, logits[letter]).astype(jnp.int32), letter

    first_key, step_key = jax.random.split(key)
    first = jax.random.randint(first_key, (rows,), 0, LETTERS)
    return jax.lax.scan(step, first, jax.random.split(step_key, length))[1].T  # [L, rows] -> [rows, L]


def continue_chain(key: Key, lang: Language, prompts: jax.Array, max_length: int) -> dict[str, jax.Array]:
    """Prompts continued by the language itself, as the columns `tokens`, `mask`, `completion` [B, W]."""
    network = LanguageModel(
        init=lambda *_: lang,
        apply=lambda p, tokens, mask: p.chain[tokens],
        prefill=lambda p, tokens, mask, room: (p.chain[tokens[-1]], ()),
        decode=lambda p, token, cache, column: (p.chain[token], cache),
    )
    return texts(prompts, generate(key, network, lang, prompts, max_length=max_length, eos_id=EOS, pad_id=PAD))


def texts(prompts: jax.Array, completions: Completions) -> dict[str, jax.Array]:
    """Prompts [B, L] and completions [B, T] as columns [B, L + T]."""
    nothing = jnp.zeros(prompts.shape, bool)
    return {
        "tokens": jnp.concatenate([prompts, completions.tokens], axis=1),
        "mask": jnp.concatenate([prompts != PAD, completions.mask], axis=1),
        "completion": jnp.concatenate([nothing, completions.mask], axis=1),
    }


class Road:
    """The stages of the pipeline on one language, each a method that takes the results of those before it."""

    def __init__(self, seed: int = 0, sizes: Sizes | None = None, say: Callable[[str], None] = print):
        """Draw a language and build a network; `say` is called with each line of progress."""
        sizes = sizes or Sizes()
        self.sizes, self.say, self.key = sizes, say, jax.random.key(seed)
        self.lang = language(self._key(0))
        self.network = transformer(VOCAB, width=sizes.width, depth=sizes.depth)
        self.held_out = prompts(self._key(1), self.lang, sizes.num_evaluated, sizes.prompt_length)
        self._score = jax.jit(jax.vmap(true_reward, (None, 0, 0)))
        self._log_probs = jax.jit(lambda params, data: columns.log_probs(self.network, params, data))
        self._rewards = jax.jit(lambda params, data: reward_models.rewards(self.network, params, data))
        self._generate = jax.jit(self._complete)

    def _complete(self, key: Key, params: Params, rows: jax.Array) -> dict[str, jax.Array]:
        longest = self.sizes.max_length
        return texts(rows, generate(key, self.network, params, rows, max_length=longest, eos_id=EOS, pad_id=PAD))

    def sft(self) -> Params:
        """Fine-tune from nothing on texts of the language; returns the parameters."""
        prompt_key, text_key, fit_key = jax.random.split(self._key(2), 3)
        rows = prompts(prompt_key, self.lang, self.sizes.num_texts, self.sizes.prompt_length)
        data = continue_chain(text_key, self.lang, rows, self.sizes.max_length)
        agent = with_minibatches(supervised.sft(self.network), self.sizes.batch_size)
        hparams = LearnerHparams(3e-3, anneal_updates=self.sizes.sft_updates)
        state, metrics = loops.fit(fit_key, agent, data, hparams, num_updates=self.sizes.sft_updates)
        self.say(f"SFT: {float(metrics['loss/total'][-1]):.3f} nats per token")
        return state.agent.params

    def pairs(self, sft: Params, rows: int, stream: int) -> dict[str, jax.Array]:
        """Pairs of completions by the SFT model, labelled by Bradley-Terry from the true reward; [rows, 2, W]."""
        key, text_key, label_key = jax.random.split(self._key(stream), 3)
        asked = prompts(key, self.lang, rows, self.sizes.prompt_length)
        data = self._generate(text_key, sft, jnp.repeat(asked, 2, axis=0))
        reward = self._score(self.lang, data["tokens"], data["completion"]).reshape(rows, 2)
        noisy = reward + jax.random.gumbel(label_key, reward.shape)
        order = jnp.argsort(-noisy, axis=1)
        columns = {name: x.reshape(rows, 2, -1) for name, x in data.items()}
        ranked = {name: jnp.take_along_axis(x, order[..., None], axis=1) for name, x in columns.items()}
        return ranked | {"true_reward": jnp.take_along_axis(reward, order, axis=1)}

    def reward_model(self, sft: Params, pairs: Columns) -> tuple[Params, dict[str, float]]:
        """A reward model from the SFT model's weights; its parameters, and its held-out accuracy beside Bayes'."""
        agent = with_minibatches(reward_models.reward_model(self.network, centering=0.01), self.sizes.batch_size)
        hparams = LearnerHparams(3e-3, anneal_updates=self.sizes.reward_updates)
        state = self._start(agent, hparams, pairs, sft)
        state, _ = loops.fit(self._key(7), agent, pairs, hparams, num_updates=self.sizes.reward_updates, state=state)
        fresh = self.pairs(sft, 4 * self.sizes.num_evaluated, 3)
        learned, true = self._rewards(state.agent.params, fresh), fresh["true_reward"]
        accuracy, bayes = (float(jnp.mean(r[:, 0] > r[:, 1])) for r in (learned, true))
        self.say(f"reward model: {accuracy:.3f} of held-out pairs right; the true reward {bayes:.3f}")
        return state.agent.params, {"accuracy": accuracy, "bayes": bayes}

    def policy_gradient(self, sft: Params, reward_params: Params, method: str, beta: float) -> tuple[Params, Metrics]:
        """PPO, RLOO or GRPO against the reward model; returns parameters and metrics."""
        sizes = self.sizes
        group = 1 if method == "ppo" else 4
        agent = {
            "ppo": lambda: policy.ppo(self.network, num_epochs=2, num_minibatches=4),
            "rloo": lambda: group_policy.rloo(self.network, group),
            "grpo": lambda: group_policy.grpo(self.network, group, num_minibatches=2),
        }[method]()
        asked = prompts(self._key(4), self.lang, 4_096, sizes.prompt_length)

        def learned_reward(tokens: jax.Array, completion: jax.Array, params: Params) -> jax.Array:
            columns = {"tokens": tokens, "mask": completion | (jnp.arange(tokens.shape[0]) < sizes.prompt_length)}
            return reward_models.rewards(self.network, params, columns)

        env = token_env(asked, learned_reward, sizes.max_length, EOS, PAD, vocab_size=VOCAB)
        hparams = policy.RLHFHparams(3e-3, beta, anneal_updates=1.2 * sizes.rl_updates, gae_lambda=0.95)
        state = policy.initial_state(agent, self._key(8), hparams, env, sft)
        state, metrics = loops.train(
            self._key(9), agent, env, hparams, num_updates=sizes.rl_updates, num_envs=sizes.rl_texts,
            rollout_length=sizes.max_length, env_params=reward_params, state=state,
            rollout=token_rollout(self.network, eos_id=EOS, pad_id=PAD, group_size=group),
        )  # fmt: skip
        return state.params, metrics

    def direct_alignment(self, sft: Params, pairs: Columns, loss: str, beta: float) -> Params:
        """DPO, or another direct loss, on the same pairs; returns the parameters."""
        rows = {name: pairs[name] for name in columns.TEXT}
        data = columns.with_reference(self.network, sft, rows)
        agent = with_minibatches(direct.direct_alignment(self.network, loss), self.sizes.batch_size)
        hparams = LearnerHparams(5e-4, anneal_updates=self.sizes.direct_updates, beta=beta)
        state = self._start(agent, hparams, data, sft)
        state, _ = loops.fit(self._key(10), agent, data, hparams, num_updates=self.sizes.direct_updates, state=state)
        return state.agent.params

    def _key(self, stream: int) -> Key:
        return jax.random.fold_in(self.key, stream)

    def _start(self, agent: Agent, hparams: LearnerHparams, data: Columns, params: Params) -> State:
        """The state of an agent behind `with_minibatches` that starts from given parameters."""
        state = agent.init(self._key(11), hparams, data)
        return state._replace(agent=state.agent._replace(params=params))

    def evaluate(self, method: str, params: Params, sft: Params, reward_params: Params) -> Point:
        """True reward, learned reward, KL(π ‖ SFT) and diversity of fresh completions of held-out prompts."""
        data = self._generate(self._key(5), params, self.held_out)
        kl = self._log_probs(params, data) - self._log_probs(sft, data)
        point = self._point(method, data, reward_params, float(jnp.mean(kl)))
        return point._replace(diversity=self.diversity(params))

    def diversity(self, params: Params) -> diversity.Diversity:
        """Of `samples_per_prompt` completions of each of at most 64 held-out prompts."""
        samples = self.sizes.samples_per_prompt
        asked = jnp.repeat(self.held_out[:64], samples, axis=0)  # [P, L] -> [P K, L]
        data = self._generate(self._key(12), params, asked)
        log_prob = np.reshape(self._log_probs(params, data), (-1, samples))
        tokens, mask = (np.reshape(data[name], (*log_prob.shape, -1)) for name in ("tokens", "completion"))
        return diversity.measure(tokens, mask, log_prob)

    def best_of_n(self, sft: Params, reward_params: Params, n: int) -> Point:
        """The SFT model's best of n by the reward model; its KL is the bound log n - (n - 1) / n."""

        def learned_reward(tokens: jax.Array, completion: jax.Array) -> jax.Array:
            mask = completion | (jnp.arange(tokens.shape[0]) < self.sizes.prompt_length)
            return reward_models.rewards(self.network, reward_params, {"tokens": tokens, "mask": mask})

        best, _ = best_of_n(
            self._key(5), self.network, sft, learned_reward, self.held_out,
            n=n, max_length=self.sizes.max_length, eos_id=EOS, pad_id=PAD,
        )  # fmt: skip
        return self._point(f"best of {n}", texts(self.held_out, best), reward_params, float(jnp.log(n) - (n - 1) / n))

    def _point(self, method: str, data: Columns, reward_params: Params, kl: float) -> Point:
        true = float(jnp.mean(self._score(self.lang, data["tokens"], data["completion"])))
        proxy = float(jnp.mean(self._rewards(reward_params, data)))
        point = Point(method, true, proxy, kl)
        self.say(f"{method}: true reward {true:.2f}, learned reward {proxy:.2f}, KL {kl:.2f} nats")
        return point


def travel(
    road: Road, methods: tuple[str, ...] = ("ppo", "rloo", "grpo", "dpo")
) -> tuple[list[Point], dict[str, float]]:
    """The whole pipeline: results of every method, the SFT model's first, and the reward model's accuracies.

    Args:
      road: the language and its stages.
      methods: among ppo, rloo, grpo, and the names of `DIRECT_LOSSES`.
    """
    sft = road.sft()
    pairs = road.pairs(sft, road.sizes.num_pairs, 6)
    reward_params, accuracies = road.reward_model(sft, pairs)
    points = [road.evaluate("sft", sft, sft, reward_params), road.best_of_n(sft, reward_params, 16)]
    for method in methods:
        if method in direct.DIRECT_LOSSES:
            params = road.direct_alignment(sft, pairs, method, beta=0.1)
        else:
            params, _ = road.policy_gradient(sft, reward_params, method, beta=0.1)
        points.append(road.evaluate(method, params, sft, reward_params))
    return points, accuracies
