"""Classic mistakes of learning from preferences: of the losses, and of the agents that use them; see `mutants.py`."""

# ruff: noqa: E501 (a mistake a line)
from mutants import Mutant

SEQUENCE = [
    ("mean for sum", 'if reduction == "sum":', 'if reduction == "mean":', "sequence_log_probs"),
    ("prompt and padding counted", "jnp.where(counted, picked", "jnp.where(counted | True, picked", "sequence_log_probs"),
    ("labels not shifted", "logits[..., :-1, :]", "logits[..., 1:, :]", "sequence_log_probs"),
    ("mask not shifted with the labels", "(mask != 0)[..., 1:]", "(mask != 0)[..., :-1]", "sequence_log_probs"),
    ("mean over the width, padding included", "sequence_lengths(mask), 1)", "mask.shape[-1], 1)", "sequence_log_probs"),
    ("reward read at the last column", "jnp.where(mask != 0, position, -1)", "position", "last_token"),
]  # fmt: skip

LOG_RATIOS = [
    ("reference ignored", "return chosen - ref_chosen, rejected - ref_rejected", "return chosen, rejected", "dpo"),
    ("reference added", "return chosen - ref_chosen, rejected - ref_rejected", "return chosen + ref_chosen, rejected + ref_rejected", "dpo"),
    ("gradient into the reference", "jax.lax.stop_gradient(reference)", "reference", "dpo"),
]  # fmt: skip

PREFERENCE = [
    ("pair swapped", "logistic_loss(beta * h", "logistic_loss(-beta * h", "dpo"),
    ("β missing", "logistic_loss(beta * h", "logistic_loss(h", "dpo"),
    ("robust DPO smoothed like cDPO", "right - label_smoothing * wrong", "right + label_smoothing * wrong", "robust_dpo"),
    ("robust DPO without its divisor", " / (1 - 2 * label_smoothing)", "", "robust_dpo"),
    ("hinge at 0 instead of 1", "jax.nn.relu(1 - beta * h)", "jax.nn.relu(-beta * h)", "hinge_dpo"),
    ("IPO's target 1 / β", "1 / (2 * beta))", "1 / beta)", "ipo"),
    ("IPO divides by the other one's length", "chosen_logps / chosen_length", "chosen_logps / rejected_length", "ipo"),
    ("list DPO ignores the reference", "(logps - jax.lax.stop_gradient(ref_logps))", "logps", "plackett_luce_dpo"),
    ("EXO: labels swapped", "jnp.log1p(-label_smoothing))\n", "jnp.log(label_smoothing))\n", "exo"),
    ("DiscoPOP: the two parts swapped", "sigmoid(-z / tau) * jax.nn.softplus(-z)", "sigmoid(z / tau) * jax.nn.softplus(-z)", "discopop"),
]  # fmt: skip

BINARY = [
    ("KTO: thumbs swapped", "(desirable != 0, gain, loss)", "(desirable != 0, loss, gain)", "kto"),
    ("KTO: weights swapped", "gain = desirable_weight", "gain = undesirable_weight", "kto"),
    ("KTO without its reference point", " - jax.lax.stop_gradient(kl)", "", "kto"),
    ("BCO: thumbs swapped", "(desirable != 0, good, bad)", "(desirable != 0, bad, good)", "bco"),
    ("BCO without its shift", " - jax.lax.stop_gradient(delta)", "", "bco"),
    ("BCO: shift of all completions together", "jnp.where(mixed, 0.5, 1.0) * (means[0] + means[1])", "reward.mean()", "bco_delta"),
]  # fmt: skip

REFERENCE_FREE = [
    ("ORPO: log-probabilities for log-odds", "-jnp.expm1(", "jnp.exp(", "orpo"),
    ("SimPO's γ inside β", "(chosen - rejected) - gamma", "(chosen - rejected - gamma)", "simpo"),
]  # fmt: skip

PAIR = [
    ("SPPO pushes the rejected one up", "(rejected_win_rate - 0.5)", "(0.5 - rejected_win_rate)", "sppo"),
    ("NCA: the rejected one counts twice", "+ 0.5 * jax.nn.softplus(beta * rejected)", "+ jax.nn.softplus(beta * rejected)", "nca"),
    ("APO: up and down swapped", "sigmoid(beta * chosen) + jax.nn.sigmoid(-beta * (chosen", "sigmoid(-beta * chosen) + jax.nn.sigmoid(-beta * (chosen", "apo_down"),
    ("APO zero pulls the rejected one up", "+ jax.nn.sigmoid(beta * rejected)", "+ jax.nn.sigmoid(-beta * rejected)", "apo_zero"),
    ("AOT without sorting", "jnp.sort(upper, axis=-1)", "upper", "aot"),
    ("AOT, unpaired, sorts one side", "jnp.sort(lower, axis=-1)", "lower", "aot_unpaired"),
]  # fmt: skip

REWARD_MODELING = [
    ("pair swapped", "chosen - rejected - margin", "rejected - chosen - margin", "bradley_terry"),
    ("margin of the wrong sign", "- rejected - margin", "- rejected + margin", "bradley_terry"),
    ("centring pulls the difference to 0", "jnp.square(chosen + rejected)", "jnp.square(chosen - rejected)", "reward_centering"),
    ("lists ranked worst to best", "reverse=True", "reverse=False", "plackett_luce"),
    ("absent items counted", "jnp.where(present, log_normalizer - rewards, 0.0)", "log_normalizer - rewards", "plackett_luce"),
    ("pairs of absent items in the mean", "jnp.sum(pair, axis=-1), 1)", "pair.shape[-1], 1)", "pairwise_ranking"),
    ("steps behind an episode's end counted", "jnp.where(jnp.asarray(mask) != 0, rewards, 0.0)", "rewards", "segment_preference"),
    ("the labeller errs twice as often", "jnp.asarray(error_rate) / 2", "jnp.asarray(error_rate)", "segment_preference"),
]  # fmt: skip

KL_CONTROL = [
    ("KL direction", "log_prob - ref_log_prob", "ref_log_prob - log_prob", "kl_penalized_reward"),
    ("optimum of β r", "ref_log_prob + reward / beta", "ref_log_prob + reward * beta", "kl_regularized_optimum"),
]  # fmt: skip

LEAVE_ONE_OUT = [
    ("baseline of the whole batch", "center(rewards, mask, axis=-1)", "center(rewards, mask)", "leave_one_out_advantages"),
    ("the sample is in its own baseline", " * count / jnp.maximum(count - 1, 1)", "", "leave_one_out_advantages"),
]  # fmt: skip

PENALTY = "losses.kl_penalized_reward(reward, texts.old_log_prob, texts.ref_log_prob, hparams.beta)"
POLICY = [
    ("whitening over padding", "losses.normalize(advantage, texts.completion)", "losses.normalize(advantage)", "ppo"),
    ("KL sign, PPO", PENALTY, PENALTY.replace("old", "x").replace("ref", "old").replace("x_", "ref_"), "ppo"),
    ("KL subtracted from the last token alone", "reward = texts.reward\n", "reward = texts.reward\n        texts = texts._replace(ref_log_prob=jnp.where(next_own(texts.completion) == 7, texts.ref_log_prob, texts.old_log_prob))\n", "ppo"),
    ("KL direction in PPO's loss", "losses.kl_estimate(log_prob, texts.ref_log_prob, kl_kind)\n        value", "losses.kl_estimate(texts.ref_log_prob, log_prob, kl_kind)\n        value", "ppo_with_kl_in_the_loss"),
    ("bootstrapping from the user's tokens", "following = next_own(own)", "following = jnp.broadcast_to(jnp.arange(1, own.shape[1] + 1), own.shape)", "ppo_in_turns"),
    ("advantages decay over the user's tokens", "jnp.where(own, hparams.gae_lambda, 1.0)", "hparams.gae_lambda", "ppo_in_turns"),
    ("β adapted the wrong way", "beta, jnp.mean(kl), hparams.kl_target", "beta, hparams.kl_target, jnp.mean(kl)", "adaptive_beta"),
    ("adapted β not used", "hparams = hparams._replace(beta=beta)", "pass", "adaptive_beta"),
]  # fmt: skip

TEXTS = [
    ("mask shifted by one", "counted = data.mask.T != 0", "counted = jnp.roll(data.mask.T != 0, -1, axis=1)", "ppo"),
    ("prompt tokens in the loss", "completion=beside(jnp.zeros_like(prompt.mask), counted)", "completion=beside(prompt.mask, counted)", "ppo"),
    ("padding in the loss", "completion=beside(jnp.zeros_like(prompt.mask), counted)", "completion=beside(jnp.zeros_like(prompt.mask), counted | True)", "ppo"),
    ("the user's tokens in the loss", "counted = data.mask.T != 0", 'counted = data.aux["written"].T', "ppo_in_turns"),
    ("the user's tokens hidden from the network", "mask=beside(prompt.mask, written)", "mask=beside(prompt.mask, counted)", "ppo_in_turns"),
    ("values not shifted", "return jnp.pad(values[:, :-1], ((0, 0), (1, 0)))", "return values", "ppo"),
    ("reward at the first token", "reward=number(data.reward)", "reward=number(data.reward[::-1])", "ppo"),
    ("masked numbers counted", "x = jnp.where(counted, x.T, 0.0)", "x = x.T", "ppo"),
    ("mean of text means, PPO", 'return losses.aggregate_tokens(loss, mask, "dapo")', 'return losses.aggregate_tokens(loss, mask, "grpo")', "ppo"),
    ("reference ignored", "ref_log_prob=token_log_probs(network, ref_params, texts)", "ref_log_prob=jnp.zeros_like(token_log_probs(network, ref_params, texts))", "ppo"),
]  # fmt: skip

GROUPS = [
    ("KL sign, RLOO", "(reward, old, ref, hparams.beta)", "(reward, ref, old, hparams.beta)", "rloo"),
    ("RLOO's baseline over the whole batch", "penalized, group)", "penalized, jnp.broadcast_to(jnp.arange(6), (6, 6)))", "rloo"),
    ("RLOO averages over tokens", 'policy, texts.completion, "dr_grpo", max_length=1)', 'policy, texts.completion, "grpo")', "rloo"),
    ("GRPO normalised over the batch", "reward, group)", "reward, jnp.broadcast_to(jnp.arange(6), (6, 6)))", "grpo"),
    ("consecutive rows taken for a group", "function(x[group])", "function(x.reshape(-1, group.shape[1]).repeat(group.shape[1], axis=0))", "grpo_in_any_order"),
    ("KL direction, GRPO", "losses.kl_estimate(log_prob, texts.ref_log_prob, kl_kind)\n        total", "losses.kl_estimate(texts.ref_log_prob, log_prob, kl_kind)\n        total", "grpo"),
    ("aggregation ignored", "policy, texts.completion, aggregation, max_length)", 'policy, texts.completion, "grpo", max_length)', "dapo"),
]  # fmt: skip

COLUMNS = [
    ("prompt counted in SFT", 'data["tokens"], data["completion"])', 'data["tokens"], data["mask"])', "sft"),
]  # fmt: skip

REWARD_MODELS = [
    ("reward read at the last column", 'return losses.last_token(values, data["mask"])', "return values[..., -1]", "reward_model"),
    ("absent texts ranked", "ranking_loss(reward, present)", "ranking_loss(reward, present | True)", "reward_model_of_rankings"),
    ("pairwise and Plackett-Luce confused", '"pairwise": losses.pairwise_ranking', '"pairwise": losses.plackett_luce', "reward_model_of_rankings"),
]  # fmt: skip

DIRECT = [
    ("pair swapped", "return logp[:, 0], logp[:, 1], ref", "return logp[:, 1], logp[:, 0], ref", "direct_alignment"),
    ("reference ignored", 'reference = data.get("ref_log_prob", jnp.zeros_like(log_prob))', "reference = jnp.zeros_like(log_prob)", "direct_alignment"),
    ("KTO: weights swapped", "weights = (desirable_weight, undesirable_weight)", "weights = (undesirable_weight, desirable_weight)", "kto_agent"),
    ("KTO: reference point of the matched texts", 'stop_gradient(params), with_prefix(data, "kl_"))', "stop_gradient(params), data)", "kto_agent"),
]  # fmt: skip

SUPERVISED = [
    ("SFT divides by texts, not by tokens", 'jnp.sum(losses.sequence_lengths(data["completion"])).astype(jnp.float32)', 'jnp.float32(len(data["tokens"]))', "sft"),
    ("mean of micro-batch means", "return summed, (summed, weight, metrics)", "return summed / weight, (summed, jnp.ones_like(weight), metrics)", "microbatches"),
    ("gradients of micro-batches not divided by their tokens", "lambda g: g / divisor", "lambda g: g / num_microbatches", "microbatches"),
]  # fmt: skip

MUTANTS = [
    Mutant(module, *rest)
    for module, rows in (
        ("losses.sequence", SEQUENCE), ("losses.log_ratios", LOG_RATIOS), ("losses.preference", PREFERENCE),
        ("losses.binary", BINARY), ("losses.reference_free", REFERENCE_FREE), ("losses.pair", PAIR),
        ("losses.groups", LEAVE_ONE_OUT), ("losses.reward_modeling", REWARD_MODELING),
        ("losses.kl_control", KL_CONTROL), ("rlhf.policy", POLICY), ("rlhf.texts", TEXTS), ("rlhf.group_policy", GROUPS),
        ("rlhf.columns", COLUMNS), ("rlhf.reward_models", REWARD_MODELS), ("rlhf.direct", DIRECT),
        ("rlhf.supervised", SUPERVISED),
    )
    for rest in rows
]  # fmt: skip
