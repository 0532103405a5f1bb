"""Updates of the agents of `purerl.rlhf` against losses written out token by token in float64, derived numerically.

The texts are of unequal length and padded on both sides, and come from a policy that is neither the present one nor the
reference. A check takes the module that it judges.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from checking import QUICK

from purerl import rlhf
from purerl.types import Transition

VOCAB, EOS, PAD, LENGTH, GROUP = 5, 3, 4, 4, 3
PROMPTS = [[0], [0], [0], [1, 2], [1, 2], [1, 2]]
WRITTEN = [[1, 2, 0, 1], [3], [2, 3], [0, 0, 3], [2, 1, 1, 2], [1, 3]]
REWARDS = np.array([1.0, -0.5, 0.3, 2.0, 0.1, -1.0])
HPARAMS = rlhf.RLHFHparams(
    1.0, beta=0.7, clip_epsilon=0.3, discount=0.9, gae_lambda=0.8, value_coef=0.6, value_clip_epsilon=0.4
)
NETWORK = rlhf.Network(
    lambda key, tokens, mask: unflatten(jnp.zeros(VOCAB * (VOCAB + 1))),
    lambda params, tokens, mask: (params["logits"][tokens], params["value"][tokens]),
)


def unflatten(theta):
    return {"logits": theta[:-VOCAB].reshape(VOCAB, VOCAB), "value": theta[-VOCAB:]}


def draw(seed):
    return np.random.default_rng(seed).normal(size=VOCAB * (VOCAB + 1)).astype(np.float32).astype(np.float64)


THETA, BEHAVIOUR, REFERENCE = draw(0), draw(0) + 0.5 * draw(1), draw(2)


# --- The oracle: one text at a time, float64 --------------------------------------------------------------------------


def before(i):
    """The token before each completion token of text i: all that a bigram sees."""
    return np.array([PROMPTS[i][-1], *WRITTEN[i][:-1]])


def log_probs(theta, i):
    logits = unflatten(theta)["logits"][before(i)]
    return logits[np.arange(len(logits)), WRITTEN[i]] - np.log(np.exp(logits).sum(axis=1))


def values(theta, i):
    return unflatten(theta)["value"][before(i)]


def estimate(log_prob, ref, kind):
    d = log_prob - ref
    return {"k1": d, "k2": d**2 / 2, "k3": np.exp(-d) - 1 + d}[kind]


def surrogate(theta, i, advantage, highest=1.3):
    ratio = np.exp(log_probs(theta, i) - log_probs(BEHAVIOUR, i))
    return -np.minimum(ratio * advantage, np.clip(ratio, 0.7, highest) * advantage)


def generalised_advantages(i, kl_in):
    penalty = HPARAMS.beta * (log_probs(BEHAVIOUR, i) - log_probs(REFERENCE, i)) * (kl_in == "reward")
    value, advantage, following = values(THETA, i), np.zeros(len(WRITTEN[i])), 0.0
    for t in reversed(range(len(value))):
        last = t == len(value) - 1
        delta = REWARDS[i] * last - penalty[t] + (0.0 if last else 0.9 * value[t + 1]) - value[t]
        advantage[t] = following = delta + 0.9 * 0.8 * following
    return advantage


def ppo_loss(kl_in, kl_kind, whiten):
    raw = [generalised_advantages(i, kl_in) for i in range(6)]
    every = np.concatenate(raw)
    shift, scale = (every.mean(), every.std()) if whiten else (0.0, 1.0)

    def loss(theta):
        total = 0.0
        for i in range(6):
            old, new = values(THETA, i), values(theta, i)
            clipped = old + np.clip(new - old, -0.4, 0.4)
            target = raw[i] + old
            total += np.sum(surrogate(theta, i, (raw[i] - shift) / scale))
            total += 0.6 * np.sum(np.maximum((new - target) ** 2, (clipped - target) ** 2)) / 2
            if kl_in == "loss":
                total += HPARAMS.beta * np.sum(estimate(log_probs(theta, i), log_probs(REFERENCE, i), kl_kind))
        return total / len(every)

    return loss


def rloo_loss(theta):
    penalised = [
        REWARDS[i] - HPARAMS.beta * np.sum(log_probs(BEHAVIOUR, i) - log_probs(REFERENCE, i)) for i in range(6)
    ]
    groups = np.reshape(penalised, (2, 3))
    advantage = (groups - (groups.sum(axis=1, keepdims=True) - groups) / 2).ravel()
    return np.mean([np.sum(surrogate(theta, i, advantage[i])) for i in range(6)])


def group_advantages():
    groups = REWARDS.reshape(2, 3)
    spread = groups.std(axis=1, ddof=1, keepdims=True) + 1e-4
    return ((groups - groups.mean(axis=1, keepdims=True)) / spread).ravel()


def kl_terms(theta, i, kind="k3"):
    return HPARAMS.beta * estimate(log_probs(theta, i), log_probs(REFERENCE, i), kind)


def grpo_loss(aggregation, kl_kind, highest=1.3):
    advantage = group_advantages()

    def loss(theta):
        tokens = [
            surrogate(theta, i, advantage[i], highest)
            + HPARAMS.beta * estimate(log_probs(theta, i), log_probs(REFERENCE, i), kl_kind)
            for i in range(6)
        ]
        if aggregation == "grpo":
            return np.mean([each.mean() for each in tokens])
        return np.concatenate(tokens).mean()

    return loss


def numerical_gradient(loss, step=1e-6):
    units = step * np.eye(len(THETA))
    return np.array([(loss(THETA + unit) - loss(THETA - unit)) / (2 * step) for unit in units])


# --- The agents on the same texts -------------------------------------------------------------------------------------


def padded(rows, width, left):
    return np.array([([PAD] * (width - len(r)) + r) if left else (r + [PAD] * (width - len(r))) for r in rows])


def trajectory():
    """As `token_rollout` would have written it; numbers of tokens that are masked are NaN."""
    mask = padded(WRITTEN, LENGTH, left=False) != PAD
    log_prob = np.full(mask.shape, np.nan)
    for i in range(6):
        log_prob[i, : len(WRITTEN[i])] = log_probs(BEHAVIOUR, i)
    prompt = jnp.asarray(padded(PROMPTS, 3, left=True))
    at_end = mask & ~np.pad(mask[:, 1:], ((0, 0), (0, 1)))
    return Transition(
        obs=(),
        action=jnp.asarray(padded(WRITTEN, LENGTH, left=False).T),
        reward=jnp.asarray(np.where(mask, at_end * REWARDS[:, None], np.nan).T, jnp.float32),
        terminated=jnp.asarray(at_end.T),
        truncated=jnp.zeros(at_end.T.shape, bool),
        next_obs=(),
        aux={"log_prob": jnp.asarray(log_prob.T, jnp.float32)},
        memory=rlhf.Prompt(prompt, prompt != PAD, jnp.array([[0, 1, 2]] * 3 + [[3, 4, 5]] * 3)),
        mask=jnp.asarray(mask.T, jnp.float32),
    )


def descend(hparams):
    return optax.sgd(1.0)


def gradient(agent, hparams, data, ref_params=None):
    params = unflatten(jnp.asarray(THETA, jnp.float32))
    example = {"tokens": jnp.zeros(7, jnp.int32), "mask": jnp.ones(7, bool)}
    state = agent.init(jax.random.key(0), hparams, example)._replace(params=params)
    state = state if ref_params is None else state._replace(ref_params=ref_params)
    new, metrics = jax.jit(agent.update, compiler_options=QUICK)(jax.random.key(1), state, data)
    moved = jax.tree.map(lambda a, b: a - b, params, new.params)
    return np.concatenate([moved["logits"].ravel(), moved["value"]]), metrics


ONE_STEP = {"num_epochs": 1, "num_minibatches": 1, "optimizer": descend}


def assert_policy_gradient(agent, loss, data=None, hparams=HPARAMS):
    """An update moves by the loss's gradient, and its metrics are KL and objective of the texts."""
    data = trajectory() if data is None else data
    found, metrics = gradient(agent, hparams, data, unflatten(jnp.asarray(REFERENCE, jnp.float32)))
    expected = numerical_gradient(loss)
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(found, expected, atol=2e-5)
    kl = np.mean([np.sum(log_probs(BEHAVIOUR, i) - log_probs(REFERENCE, i)) for i in range(6)])
    np.testing.assert_allclose(metrics["rlhf/kl"], kl, atol=1e-5)
    np.testing.assert_allclose(metrics["rlhf/objective"], REWARDS.mean() - 0.7 * kl, atol=1e-5)
    return metrics


def check_ppo(m):
    assert_policy_gradient(m.ppo(NETWORK, **ONE_STEP), ppo_loss("reward", "k1", whiten=True))


def check_ppo_with_kl_in_the_loss(m):
    agent = m.ppo(NETWORK, kl_in="loss", kl_kind="k3", normalize_advantage=False, **ONE_STEP)
    assert_policy_gradient(agent, ppo_loss("loss", "k3", whiten=False))


def check_adaptive_beta(m):
    """β of the second update is what the controller makes of the first one's KL, and its loss is that β's."""
    data, hparams = trajectory(), HPARAMS._replace(kl_target=0.1, kl_horizon=30.0)
    agent = m.ppo(NETWORK, **ONE_STEP)
    example = {"tokens": jnp.zeros(7, jnp.int32), "mask": jnp.ones(7, bool)}
    state = agent.init(jax.random.key(0), hparams, example)
    state = state._replace(ref_params=unflatten(jnp.asarray(REFERENCE, jnp.float32)))
    update = jax.jit(agent.update, compiler_options=QUICK)
    state, metrics = update(jax.random.key(1), state, data)
    np.testing.assert_allclose(metrics["rlhf/beta"], 0.7, rtol=1e-6)
    assert metrics["rlhf/kl"] > 0.12
    np.testing.assert_allclose(state.beta, 0.7 * (1 + 0.2 * 6 / 30), rtol=1e-6)
    at_beta = state._replace(hparams=hparams._replace(kl_target=jnp.inf, beta=state.beta))
    adapted, fixed = (update(jax.random.key(2), each, data) for each in (state, at_beta))
    np.testing.assert_allclose(adapted[1]["rlhf/objective"], fixed[1]["rlhf/objective"], rtol=1e-6)
    np.testing.assert_allclose(adapted[0].params["logits"], fixed[0].params["logits"], rtol=1e-5, atol=1e-6)


# Text 0 as a conversation: the model's tokens 1 and 2, the user's 4 and 4, and the model's 0 and 1.
OWN = np.array([True, True, False, False, True, True])


def in_turns(turn_reward=0.5):
    """A trajectory of one conversation, [6, 1]; the first turn is paid too."""
    before_own = np.array([0, 1, 4, 0])  # what a bigram sees before the tokens that the model wrote
    tokens = np.array([1, 2, 4, 4, 0, 1])
    logits = unflatten(BEHAVIOUR)["logits"][before_own]
    log_prob = np.full(6, np.nan)
    log_prob[OWN] = logits[np.arange(4), tokens[OWN]] - np.log(np.exp(logits).sum(axis=1))
    reward = np.where(OWN, [0, turn_reward, 9, 9, 0, 1.0], np.nan)
    column = lambda x, dtype: jnp.asarray(np.asarray(x)[:, None], dtype)  # noqa: E731
    return Transition(
        obs=(), action=column(tokens, jnp.int32), reward=column(reward, jnp.float32),
        terminated=column(np.arange(6) == 5, bool), truncated=column(np.zeros(6), bool), next_obs=(),
        aux={"log_prob": column(log_prob, jnp.float32), "written": column(np.ones(6), bool)},
        memory=rlhf.Prompt(jnp.array([[0]]), jnp.array([[True]]), jnp.array([[0]])),
        mask=column(OWN, jnp.float32),
    )  # fmt: skip


def check_ppo_in_turns(m):
    """The advantage of the first turn's last token follows from the next turn's first token; the user's count nowhere.

    The network adds the number of unmasked tokens so far to the value, so that one which is hidden would be missed.
    """
    before_own, seen = np.array([0, 1, 4, 0]), np.array([1, 2, 5, 6])
    written = np.array([1, 2, 0, 1])
    reward = np.array([0, 0.5, 0, 1.0])

    def own_log_probs(theta):
        logits = unflatten(theta)["logits"][before_own]
        return logits[np.arange(4), written] - np.log(np.exp(logits).sum(axis=1))

    def own_values(theta):
        return unflatten(theta)["value"][before_own] + 0.1 * seen

    penalised = reward - 0.7 * (own_log_probs(BEHAVIOUR) - own_log_probs(REFERENCE))
    value, advantage, following = own_values(THETA), np.zeros(4), 0.0
    for t in reversed(range(4)):
        delta = penalised[t] + (0.0 if t == 3 else 0.9 * value[t + 1]) - value[t]
        advantage[t] = following = delta + 0.9 * 0.8 * following

    def loss(theta):
        ratio = np.exp(own_log_probs(theta) - own_log_probs(BEHAVIOUR))
        policy = -np.minimum(ratio * advantage, np.clip(ratio, 0.7, 1.3) * advantage)
        new, target = own_values(theta), advantage + value
        clipped = value + np.clip(new - value, -0.4, 0.4)
        return np.mean(policy + 0.6 * np.maximum((new - target) ** 2, (clipped - target) ** 2) / 2)

    def apply(params, tokens, mask):
        return params["logits"][tokens], params["value"][tokens] + 0.1 * jnp.cumsum(mask)

    agent = m.ppo(NETWORK._replace(apply=apply), normalize_advantage=False, **ONE_STEP)
    found, metrics = gradient(agent, HPARAMS, in_turns(), unflatten(jnp.asarray(REFERENCE, jnp.float32)))
    np.testing.assert_allclose(found, numerical_gradient(loss), atol=2e-5)
    np.testing.assert_allclose(metrics["rlhf/reward"], 1.5, atol=1e-6)


def check_rloo(m):
    assert_policy_gradient(m.rloo(NETWORK, GROUP, **ONE_STEP), rloo_loss)


def check_grpo(m):
    assert_policy_gradient(m.grpo(NETWORK, GROUP, **ONE_STEP), grpo_loss("grpo", "k3"))


def check_dapo(m):
    agent = m.grpo(NETWORK, GROUP, aggregation="dapo", kl_kind="k2", **ONE_STEP)
    assert_policy_gradient(agent, grpo_loss("dapo", "k2"))


TWO_SIDED = HPARAMS._replace(clip_epsilon_high=0.6)


def check_two_sided_clip(m):
    agent = m.grpo(NETWORK, GROUP, aggregation="dapo", **ONE_STEP)
    assert_policy_gradient(agent, grpo_loss("dapo", "k3", 1.6), hparams=TWO_SIDED)


def check_gspo(m):
    advantage = group_advantages()

    def loss(theta):
        total = 0.0
        for i in range(6):
            ratio = np.exp(np.mean(log_probs(theta, i) - log_probs(BEHAVIOUR, i)))
            total -= np.minimum(ratio * advantage[i], np.clip(ratio, 0.7, 1.6) * advantage[i])
            total += np.mean(kl_terms(theta, i))
        return total / 6

    assert_policy_gradient(m.gspo(NETWORK, GROUP, **ONE_STEP), loss, hparams=TWO_SIDED)


def check_cispo(m):
    """The weights are those of the parameters before the step, whatever is differentiated."""
    advantage = group_advantages()
    weights = [np.minimum(np.exp(log_probs(THETA, i) - log_probs(BEHAVIOUR, i)), 1.6) for i in range(6)]
    assert any((weight == 1.6).any() for weight in weights)

    def loss(theta):
        tokens = [-weights[i] * advantage[i] * log_probs(theta, i) + kl_terms(theta, i) for i in range(6)]
        return np.concatenate(tokens).mean()

    assert_policy_gradient(m.cispo(NETWORK, GROUP, **ONE_STEP), loss, hparams=TWO_SIDED)


def check_grpo_in_any_order(m):
    """Rows of one prompt need not stand side by side: the group says which they are."""
    order = np.array([3, 0, 4, 1, 5, 2])
    data = trajectory()
    mixed = jax.tree.map(lambda x: x[:, order], data._replace(memory=()))
    prompt = data.memory._replace(group=jnp.array([[0, 2, 4], [1, 3, 5]] * 3))
    prompt = prompt._replace(tokens=prompt.tokens[order], mask=prompt.mask[order])
    assert_policy_gradient(m.grpo(NETWORK, **ONE_STEP), grpo_loss("grpo", "k3"), mixed._replace(memory=prompt))


# --- Agents that learn from data --------------------------------------------------------------------------------------

LEARNER = rlhf.LearnerHparams(1.0, beta=0.7)
PAIRED = np.array([[0, 1], [2, 1], [3, 5]])  # chosen and rejected among the texts


def texts():
    """The same texts as the columns `tokens`, `mask` and `completion`, [6, 7]."""
    tokens = np.hstack([padded(PROMPTS, 3, left=True), padded(WRITTEN, LENGTH, left=False)])
    mask = tokens != PAD
    return {"tokens": tokens, "mask": mask, "completion": mask & (np.arange(3 + LENGTH) >= 3)}


def pairs():
    return {name: jnp.asarray(column[PAIRED]) for name, column in texts().items()}


def sums(theta):
    """Log-probability of each text's completion, [6]."""
    return np.array([np.sum(log_probs(theta, i)) for i in range(6)])


def log_sigmoid(x):
    return -np.log1p(np.exp(-x))


def assert_gradient(agent, data, loss):
    """An update moves by the loss's gradient; the metrics."""
    found, metrics = gradient(agent, LEARNER, data)
    expected = numerical_gradient(loss)
    assert np.abs(expected).max() > 0.02
    np.testing.assert_allclose(found, expected, atol=2e-5)
    return metrics


def mean_nll(theta):
    return -sums(theta).sum() / sum(map(len, WRITTEN))


def check_sft(m):
    assert_gradient(m.sft(NETWORK, optimizer=descend), jax.tree.map(jnp.asarray, texts()), mean_nll)


def check_microbatches(m):
    """Three micro-batches of unequally many tokens make the step of the whole batch."""

    def loss(params, data, hparams):
        counted = jnp.sum(data["completion"]).astype(jnp.float32)
        return -jnp.sum(rlhf.log_probs(NETWORK, params, data)), counted, {}

    agent = m.learner(NETWORK, loss, num_microbatches=3, optimizer=descend)
    assert_gradient(agent, jax.tree.map(jnp.asarray, texts()), mean_nll)


def check_reward_model(m):
    def loss(theta):
        last = np.array([unflatten(theta)["value"][written[-1]] for written in WRITTEN])[PAIRED]
        return -np.mean(log_sigmoid(last[:, 0] - last[:, 1]))

    assert_gradient(m.reward_model(NETWORK, optimizer=descend), pairs(), loss)


def check_reward_model_of_rankings(m):
    """InstructGPT's loss: the mean over a ranking's pairs, then over rankings; the second ranks two texts only."""
    ranked = np.array([[0, 1, 4], [3, 5, 2]])
    data = {name: column[ranked].copy() for name, column in texts().items()}
    data["tokens"][1, 2], data["mask"][1, 2], data["completion"][1, 2] = PAD, False, False

    def loss(theta):
        last = np.array([unflatten(theta)["value"][written[-1]] for written in WRITTEN])[ranked]
        first = np.mean([log_sigmoid(last[0, i] - last[0, j]) for i, j in [(0, 1), (0, 2), (1, 2)]])
        return -(first + log_sigmoid(last[1, 0] - last[1, 1])) / 2

    agent = m.reward_model(NETWORK, "pairwise", optimizer=descend)
    assert_gradient(agent, jax.tree.map(jnp.asarray, data), loss)


def check_direct_alignment(m):
    data = pairs() | {"ref_log_prob": jnp.asarray(sums(REFERENCE)[PAIRED], jnp.float32)}

    def loss(theta):
        ratio = (sums(theta) - sums(REFERENCE))[PAIRED]
        return -np.mean(log_sigmoid(0.7 * (ratio[:, 0] - ratio[:, 1])))

    assert_gradient(m.direct_alignment(NETWORK, "dpo", optimizer=descend), data, loss)


def check_aot_unpaired_agent(m):
    data = pairs() | {"ref_log_prob": jnp.asarray(sums(REFERENCE)[PAIRED], jnp.float32)}

    def loss(theta):
        good, bad = np.sort((sums(theta) - sums(REFERENCE))[PAIRED], axis=0).T
        return -np.mean(log_sigmoid(0.7 * (good - bad)))

    assert_gradient(m.direct_alignment(NETWORK, "aot_unpaired", optimizer=descend), data, loss)


def check_bco_agent(m):
    ref, label = sums(REFERENCE), np.array([True, False, True, True, False, False])
    data = {name: jnp.asarray(x) for name, x in (texts() | {"label": label}).items()}
    data |= {"ref_log_prob": jnp.asarray(ref, jnp.float32)}
    reward = 0.7 * (sums(THETA) - ref)
    delta = (reward[label].mean() + reward[~label].mean()) / 2

    def loss(theta):
        logit = 0.7 * (sums(theta) - ref) - delta  # the shift is that of the parameters before the step
        return -np.mean(np.where(label, 1.5 * log_sigmoid(logit), 0.5 * log_sigmoid(-logit)))

    agent = m.bco(NETWORK, desirable_weight=1.5, undesirable_weight=0.5, optimizer=descend)
    metrics = assert_gradient(agent, data, loss)
    np.testing.assert_allclose(metrics["loss/delta"], delta, atol=1e-5)
    np.testing.assert_allclose(metrics["loss/accuracy"], np.mean((reward > delta) == label), atol=1e-6)


def check_kto_agent(m):
    other = [1, 2, 1, 0, 4, 4]
    mismatched = {f"kl_{name}": column[other] for name, column in texts().items()}
    ref, label = sums(REFERENCE), np.array([True, False, True, True, False, False])
    data = {name: jnp.asarray(x) for name, x in (texts() | mismatched | {"label": label}).items()}
    data |= {"ref_log_prob": jnp.asarray(ref, jnp.float32), "kl_ref_log_prob": jnp.asarray(ref[other] - 3, jnp.float32)}
    kl = np.mean((sums(THETA) - ref)[other]) + 3
    assert kl > 0.1

    def loss(theta):
        h = sums(theta) - ref
        sigmoid = 1 / (1 + np.exp(-0.7 * np.where(label, h - kl, kl - h)))
        return np.mean(np.where(label, 1.5, 0.5) * (1 - sigmoid))

    metrics = assert_gradient(
        m.kto(NETWORK, desirable_weight=1.5, undesirable_weight=0.5, optimizer=descend), data, loss
    )
    np.testing.assert_allclose(metrics["loss/kl"], kl, atol=1e-5)
