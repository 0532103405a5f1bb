"""Classic mistakes of reinforcement-learning code: each a change of one line of purerl, and the check that must see it.

A mutant is (module, mistake, line as it is, line as it is wrong, check). The check is named in `checks_*.py`.
"""

# ruff: noqa: E501 (a mistake a line)
from typing import NamedTuple


class Mutant(NamedTuple):
    module: str
    mistake: str
    right: str
    wrong: str
    check: str


RETURNS = [
    ("reward-to-go not discounted", "r + d * cut(g, d)", "r + cut(g, d)", "reward_to_go"),
    ("reward-to-go leaks over the end of an episode", "r + d * cut(g, d)", "r + 0.5 * g", "reward_to_go"),
    ("whole return off by one: starts one step late", "discount[:-1] == 0", "discount[1:] == 0", "whole_returns"),
    ("whole return is the reward-to-go", "jnp.where(start, g, whole)", "g", "whole_returns"),
    ("n-step return one step too long", "next_value, one_step, n - 1)", "next_value, one_step, n)", "n_step_returns"),
    ("n-step return does not bootstrap at the end of the batch", "trace_decay.at[-1].set(0)", "trace_decay", "n_step_returns"),
    ("n-step return drops the bootstrap at a truncation", "(1 - trace_decay) * next_value, one", "0 * next_value, one", "n_step_returns"),
    ("λ-return bootstraps through a termination", "r + (d - trace) * cut(v, d)", "r + (0.5 - trace) * v", "lambda_returns"),
    ("NaN value of a terminated successor leaks", "(d - trace) * cut(v, d)", "(d - trace) * v", "lambda_returns"),
    ("trace not cut at a truncation", "trace * cut(g, trace)", "0.8 * d * cut(g, d)", "lambda_returns"),
    ("λ and 1 − λ swapped", "(d - trace) * cut(v, d) + trace * cut(g, trace)", "trace * cut(v, d) + (d - trace) * cut(g, d)", "lambda_returns"),
    ("λ-return starts from 0 instead of the last bootstrap", "backward_scan(step, next_value[-1], reward, discount, next_value, trace_decay)", "backward_scan(step, 0 * reward[0], reward, discount, next_value, trace_decay)", "lambda_returns"),
    ("γ missing from the trace of GAE", "d * k * cut(a, d * k)", "k * cut(a, d * k)", "gae"),
    ("λ missing from the trace of GAE", "d * k * cut(a, d * k)", "d * cut(a, d * k)", "gae"),
    ("γ missing from the TD error", "d * cut(w, d) - v", "cut(w, d) - v", "gae"),
    ("baseline not subtracted", "d * cut(w, d) - v", "d * cut(w, d)", "gae"),
    ("successor's value is that of the state itself", "d * cut(w, d) - v", "d * cut(v, d) - v", "gae"),
]  # fmt: skip

RECURSION = [
    ("time runs forward", "xs, reverse=True)", "xs, reverse=False)", "lambda_returns"),
    ("a cut lets everything through", "jnp.where(weight == 0, 0, x)", "x", "lambda_returns"),
    ("window of an n-step return shifted by one", "(-steps, steps, 0)", "(1 - steps, steps - 1, 0)", "n_step_returns"),
    ("window longer than the batch not shortened", "min(length, len(slope)), 1", "length & 7, 1", "n_step_returns"),
]  # fmt: skip

OFF_POLICY = [
    ("ρ not clipped", "jnp.exp(jnp.minimum(log_rho, jnp.log(rho_bar)))", "jnp.exp(log_rho)", "vtrace"),
    ("c not clipped", "jnp.exp(jnp.minimum(log_rho, jnp.log(c_bar)))", "jnp.exp(log_rho)", "vtrace"),
    ("c clipped at ρ̄", "jnp.minimum(log_rho, jnp.log(c_bar))", "jnp.minimum(log_rho, jnp.log(rho_bar))", "vtrace"),
    ("min and max swapped in the clip of ρ", "jnp.exp(jnp.minimum(log_rho, jnp.log(rho_bar)))", "jnp.exp(jnp.maximum(log_rho, jnp.log(rho_bar)))", "vtrace"),
    ("TD error of V-trace not weighted by ρ", "value + rho * (reward", "value + (reward", "vtrace"),
    ("trace of V-trace without c", "discount * trace_decay * c, next_value", "discount * trace_decay, next_value", "vtrace"),
    ("V-trace advantage not weighted by ρ", "return value_target, rho * (", "return value_target, (", "vtrace"),
    ("V-trace advantage leaks over a truncation", "trace_decay * following + (1 - trace_decay) * next_value", "following", "vtrace_advantage_over_a_cut"),
    ("V-trace advantage bootstraps from its own step", "[value_target[1:], next_value[-1:]]", "[value_target]", "vtrace"),
    ("Retrace: the value taken is not subtracted", "c * cut(g - q, d * c)", "c * cut(g, d * c)", "retrace"),
    ("Retrace: the trace continues beyond the batch", "c.at[-1].set(0)", "c", "retrace"),
    ("Retrace: γ missing", "r + d * (cut(e, d) + c", "r + (cut(e, d) + c", "retrace"),
    ("tree backup without the policy's probability", "trace_decay * cut(next_prob_taken, trace_decay)", "trace_decay", "tree_backup"),
    ("Q(λ) not cut by an exploratory action", "jnp.where(taken == best, trace_decay, 0)", "trace_decay", "q_lambda"),
    ("Q(λ) cut by a greedy action", "jnp.where(taken == best,", "jnp.where(taken != best,", "q_lambda"),
]  # fmt: skip

IMPORTANCE_SAMPLING = [
    ("importance weights summed instead of multiplied", "jnp.exp(log_weight) * returns", "log_weight * returns", "ordinary_importance_sampling"),
    ("importance weight reaches into the next episode", "l + cut(w, d)", "l + w", "ordinary_importance_sampling"),
    ("weighted sampling divides by the number of episodes", "jnp.where(total == 0, 1, total)", "jnp.shape(weight)[axis]", "weighted_importance_sampling"),
    ("weighted sampling normalises over time", "total = jnp.sum(weight, axis=axis, keepdims=True)", "total = jnp.sum(weight, axis=0, keepdims=True)", "weighted_importance_sampling"),
    ("weighted sampling is 0/0 where nothing has weight", "jnp.where(total == 0, 1, total)", "total", "weighted_importance_sampling"),
    ("per-decision sampling leaves the reward's own ratio out", "rho * reward, rho * discount", "reward, rho * discount", "per_decision_importance_sampling"),
]  # fmt: skip

VALUE = [
    ("TD error with the sign flipped", "lax.stop_gradient(target) - value", "value - lax.stop_gradient(target)", "td_error"),
    ("TD error without stop-gradient", "lax.stop_gradient(target) - value", "target - value", "td_error"),
    ("target without stop-gradient", "lax.stop_gradient(reward + discount * cut(next_value, discount))", "reward + discount * cut(next_value, discount)", "td_target"),
    ("target leaks NaN at a termination", "cut(next_value, discount))", "next_value)", "td_target"),
    ("Q-learning takes the mean instead of the maximum", "next_q.max(axis=-1))", "next_q.mean(axis=-1))", "q_learning_target"),
    ("Q-learning maximises over the batch", "next_q.max(axis=-1))", "next_q.max(axis=0))", "q_learning_target"),
    ("roles of the two networks swapped in double Q", "action_value(next_q_target, jnp.argmax(next_q_online, axis=-1))", "action_value(next_q_online, jnp.argmax(next_q_target, axis=-1))", "double_q_target"),
    ("double Q is plain Q of the target network", "jnp.argmax(next_q_online, axis=-1)", "jnp.argmax(next_q_target, axis=-1)", "double_q_target"),
    ("expected SARSA averages uniformly", "jnp.sum(next_probs * cut(next_q, next_probs), axis=-1)", "jnp.mean(next_q, axis=-1)", "expected_sarsa_target"),
    ("soft maximum without the temperature in front", "best + temperature * jnp.log", "best + jnp.log", "soft_q_target"),
    ("soft maximum divides by zero at temperature 0", "jnp.maximum(temperature, jnp.finfo(next_q.dtype).tiny)", "temperature", "soft_q_target"),
    ("entropy bonus with the sign flipped", "next_q - temperature * next_log_prob", "next_q + temperature * next_log_prob", "entropy_regularized_target"),
]  # fmt: skip

DISTRIBUTIONAL = [
    ("C51 loses the mass of an atom hit exactly", "jnp.maximum(0, 1 - jnp.abs(", "jnp.where(position[..., None, :] % 1 == 0, 0, 1) * jnp.maximum(0, 1 - jnp.abs(", "categorical_projection"),
    ("C51 does not clip to the support", ", 0, size - 1)", ", -jnp.inf, jnp.inf)", "categorical_projection"),
    ("C51 spacing divides by Z", "(size - 1) / (high - low)", "size / (high - low)", "categorical_projection"),
    ("quantile error with the sign flipped", "target_quantiles[..., None, :] - quantiles[..., :, None]", "quantiles[..., :, None] - target_quantiles[..., None, :]", "quantile_huber"),
    ("quantile levels applied to the wrong side", "(error < 0)", "(error > 0)", "quantile_huber"),
    ("sum and mean swapped over quantiles and targets", "jnp.sum(jnp.mean(weight * huber, axis=-1), axis=-1)", "jnp.mean(jnp.sum(weight * huber, axis=-1), axis=-1)", "quantile_huber"),
    ("Huber loss not divided by κ", "inside * (inside / floor) / 2 + (size - inside)", "inside * inside / 2 + kappa * (size - inside)", "quantile_huber"),
    ("quantile targets without stop-gradient", "taus, target_quantiles = lax.stop_gradient((taus, target_quantiles))", "taus = lax.stop_gradient(taus)", "quantile_huber"),
]  # fmt: skip

POLICY_GRADIENT = [
    ("REINFORCE descends", "-log_prob * lax.stop_gradient(advantage)", "log_prob * lax.stop_gradient(advantage)", "reinforce"),
    ("REINFORCE trains the baseline", "-log_prob * lax.stop_gradient(advantage)", "-log_prob * advantage", "reinforce"),
    ("surrogate takes the maximum", "-jnp.minimum(capped * advantage", "-jnp.maximum(capped * advantage", "clipped_surrogate"),
    ("surrogate without its sign", "return -jnp.minimum(capped", "return jnp.minimum(capped", "clipped_surrogate"),
    ("ratio upside down", "bounded_ratio(log_prob - lax.stop_gradient(old_log_prob))", "bounded_ratio(lax.stop_gradient(old_log_prob) - log_prob)", "clipped_surrogate"),
    ("ratio of log-probabilities", "bounded_ratio(log_prob - lax.stop_gradient(old_log_prob))", "log_prob / lax.stop_gradient(old_log_prob)", "clipped_surrogate"),
    ("surrogate without the pessimistic minimum", "jnp.minimum(capped * advantage, jnp.clip(ratio, 1 - clip_epsilon, 1 + high) * advantage)", "(jnp.clip(ratio, 1 - clip_epsilon, 1 + high) * advantage)", "clipped_surrogate"),
    ("old log-probability without stop-gradient", "lax.stop_gradient(old_log_prob))", "old_log_prob)", "clipped_surrogate"),
    ("clip-higher ignored", "1 - clip_epsilon, 1 + high", "1 - clip_epsilon, 1 + clip_epsilon", "clipped_surrogate"),
    ("clipped value takes the minimum", "0.5 * jnp.maximum(jnp.square(value", "0.5 * jnp.minimum(jnp.square(value", "clipped_value"),
    ("clipped value without its half", "0.5 * jnp.maximum(jnp.square(value", "jnp.maximum(jnp.square(value", "clipped_value"),
    ("value target trained", "old_value, value_target = lax.stop_gradient((old_value, value_target))", "old_value = lax.stop_gradient(old_value)", "clipped_value"),
    ("KL penalty rewarded", "* advantage + kl_coef * kl", "* advantage - kl_coef * kl", "kl_penalized_surrogate"),
    ("adaptive coefficient moves the wrong way", "jnp.where(kl > 1.5 * kl_target, 2.0", "jnp.where(kl > 1.5 * kl_target, 0.5", "adaptive_kl_coef"),
    ("actor-critic of V-trace without stop-gradient", "value_target, advantage = lax.stop_gradient(", "value_target, advantage = (", "vtrace_actor_critic"),
    ("V-trace ratio upside down", "log_rho = log_prob - behaviour_log_prob", "log_rho = behaviour_log_prob - log_prob", "vtrace_actor_critic"),
    ("normalisation with ddof 1", "spread(centered, count)", "spread(centered, count - 1)", "normalize"),
    ("normalisation divides by the variance", "spread(centered, count)", "jnp.square(spread(centered, count))", "normalize"),
    ("normalisation counts masked entries", "center(advantage, mask)", "center(jnp.where(mask, advantage, 0) if mask is not None else advantage)", "normalize"),
    ("two-sided clip ignored", "jnp.minimum(ratio, max_ratio)", "ratio", "clipped_surrogate_with_a_largest_ratio"),
]  # fmt: skip

DIVERGENCES = [
    ("k1 of the other direction", "return -log_ratio", "return log_ratio", "kl_estimate"),
    ("k2 without its half", "0.5 * jnp.square(log_ratio)", "jnp.square(log_ratio)", "kl_estimate"),
    ("k3 of the inverse ratio", "log_ratio = ref_log_prob - log_prob", "log_ratio = log_prob - ref_log_prob", "kl_estimate_gradients"),
    ("k3 through exp − 1, which cancels", "return k3(log_ratio)", "return jnp.exp(log_ratio) - 1 - log_ratio", "kl_estimate"),
    ("entropy with the sign flipped", "return -jnp.sum(jnp.exp(log_probs) * log_probs", "return jnp.sum(jnp.exp(log_probs) * log_probs", "categorical_entropy"),
    ("entropy averaged instead of summed", "-jnp.sum(jnp.exp(log_probs) * log_probs", "-jnp.mean(jnp.exp(log_probs) * log_probs", "categorical_entropy"),
    ("entropy of unnormalised logits", "log_probs = _log_softmax(logits)", "log_probs = logits", "categorical_entropy"),
    ("entropy of a forbidden action is 0 · ∞", "jnp.maximum(logits, lowest)", "logits", "categorical_entropy"),
    ("Gaussian entropy without e", "2 * math.pi * math.e", "2 * math.pi", "gaussian_entropy"),
    ("KL weighted by the wrong distribution", "jnp.exp(log_p) * (log_p - log_q)", "jnp.exp(log_q) * (log_p - log_q)", "categorical_kl"),
    ("Gaussian KL scaled by the wrong deviation", "jnp.exp(-other_log_std))", "jnp.exp(-log_std))", "gaussian_kl"),
    ("Gaussian KL with deviation for variance", "2 * (log_std - other_log_std)", "(log_std - other_log_std)", "gaussian_kl"),
]  # fmt: skip

RATIOS = [
    ("k3 overflows far from the reference", "jnp.expm1(inside) + beyond", "jnp.expm1(log_ratio)", "kl_estimate_far_apart"),
    ("k3 has no gradient far from the reference", "jnp.expm1(inside) + beyond", "jnp.expm1(inside)", "kl_estimate_far_apart"),
]  # fmt: skip

CENTERING = [
    ("rounding of the mean left in", "shifted = x - lax.stop_gradient(x.max(axis=axis, keepdims=True))", "shifted = x", "equal_rewards"),
    ("masked entries in the mean", "shifted.sum(axis=axis, keepdims=True, dtype=wide) / count", "shifted.mean(axis=axis, keepdims=True, dtype=wide)", "masked_rewards"),
    ("masked entries in the maximum", "jnp.where(counted, x, -jnp.inf).max(", "x.max(", "masked_rewards"),
]  # fmt: skip

GROUPS = [
    ("group advantage with ddof 0", "jnp.maximum(count - 1, 1), axis=-1)", "count, axis=-1)", "group_advantages"),
    ("group advantage over the whole batch", "center(lax.stop_gradient(rewards), mask, axis=-1)", "center(lax.stop_gradient(rewards), mask)", "group_advantages"),
    ("scale=False ignored", "if not scale:", "if scale is None:", "group_advantages"),
]  # fmt: skip

TOKEN_LOSSES = [
    ("KL penalty missing", "kl_coef * penalty", "0 * penalty", "grpo"),
    ("reference policy trained", "lax.stop_gradient(ref_log_prob)", "ref_log_prob", "grpo"),
    ("masked token poisons the rest", "tuple(_masked(array, mask) for array", "tuple(array for array", "grpo_masked"),
    ("advantages of tokens in the wrong order", "if advantage.shape != log_prob.shape:", "if advantage.shape == log_prob.shape:\n        advantage = advantage[..., ::-1]\n    else:", "grpo_by_token"),
    ("GSPO takes the product of the ratios", "total / jnp.maximum(counted.sum(axis=-1), 1)", "total", "gspo"),
    ("GSPO divides by the width", "total / jnp.maximum(counted.sum(axis=-1), 1)", "total / counted.shape[-1]", "gspo"),
    ("CISPO differentiates its weight", "-lax.stop_gradient(weight * advantage) * log_prob", "-(weight * advantage) * log_prob", "cispo"),
    ("CISPO without its clip", "jnp.minimum(ratio(log_prob - old_log_prob), 1 + clip_epsilon_high)", "ratio(log_prob - old_log_prob)", "cispo"),
    ("padding counted in the mean", "jnp.mean(totals / jnp.maximum(counts, 1))", "jnp.mean(totals / loss.shape[-1])", "aggregate_tokens"),
    ("DAPO averages sequences", "totals.sum() / jnp.maximum(counts.sum(), 1)", "jnp.mean(totals / jnp.maximum(counts, 1))", "aggregate_tokens"),
    ("masked token counted", "jnp.where(mask, loss, 0).sum(axis=-1)", "loss.sum(axis=-1)", "aggregate_tokens"),
    ("Dr. GRPO divides by the true length", "jnp.mean(totals) / (", "jnp.mean(totals / jnp.maximum(counts, 1)) / (", "aggregate_tokens"),
]  # fmt: skip

EXPLORATION = [
    ("ties go to the first", "jnp.where(members, noise, -1)", "members", "greedy"),
    ("explores with probability 1 − ε", "noise[..., -1] < epsilon", "noise[..., -1] > epsilon", "epsilon_greedy"),
    ("explores invalid actions", "jnp.where(explore[..., None], allowed, best)", "jnp.where(explore[..., None], True, best)", "epsilon_greedy"),
    ("probabilities forget that the greedy action is also explored", "epsilon * uniform +", "epsilon * uniform * ~best +", "epsilon_greedy_probs"),
    ("temperature multiplied", "shifted) / temperature,", "shifted) * temperature,", "boltzmann_probs"),
    ("temperature 0 divides by zero", "jnp.maximum(_by_state(temperature, q), jnp.finfo(q.dtype).tiny)", "_by_state(temperature, q)", "boltzmann_probs"),
]  # fmt: skip

BANDITS = [
    ("untried arms come last", "jnp.where(count == 0, jnp.inf", "jnp.where(count == 0, -jnp.inf", "ucb1"),
    ("bound without the root", "jnp.sqrt(jnp.log(total) / jnp.maximum(count, 1))", "jnp.log(total) / jnp.maximum(count, 1)", "ucb1"),
    ("gradient bandit without the probabilities", "(taken - jax.nn.softmax(preference))", "taken", "gradient_bandit_update"),
    ("successes and failures swapped", "prior_successes + successes, prior_failures + failures", "prior_failures + failures, prior_successes + successes", "thompson_bernoulli"),
    ("posterior without the prior's mean", "mean = prior_mean + (total", "mean = (total", "gaussian_posterior"),
]  # fmt: skip

SCHEDULES = [
    ("schedule runs past its end", "jnp.where(done, 1, jnp.maximum(", "jnp.where(done & (step < 0), 1, jnp.maximum(", "linear_schedule"),
    ("start and end swapped", "(1 - fraction) * start + fraction * end", "fraction * start + (1 - fraction) * end", "linear_schedule"),
    ("exponential schedule is linear", "start * ratio**fraction", "start + fraction * (end - start)", "exponential_schedule"),
    ("boundary belongs to the step before", 'searchsorted(boundaries, jnp.asarray(step), side="right")', 'searchsorted(boundaries, jnp.asarray(step), side="left")', "piecewise_schedules"),
]  # fmt: skip

DISCRETE = [
    ("mask ignored", "jnp.where(jnp.asarray(mask, bool), logits, lowest)", "logits", "categorical"),
    ("mask inverted", "logits = jnp.where(jnp.asarray(mask, bool), logits, lowest)", "logits = jnp.where(jnp.asarray(mask, bool), lowest, logits)", "categorical"),
    ("mask of −∞ makes NaN gradients", "jnp.maximum(logits, lowest)", "jnp.where(logits == lowest, -jnp.inf, logits)", "categorical_gradients_stay_finite"),
    ("log-probability of unnormalised logits", "_log_softmax(jnp.maximum(logits, lowest))", "jnp.maximum(logits, lowest)", "categorical"),
    ("action off range is certain", "jnp.where(any_last(chosen), log_prob, jnp.finfo(log_prob.dtype).min)", "log_prob", "actions_off_range"),
    ("multi-discrete averages its parts", "sum_last(self.parts.log_prob(value))", "self.parts.log_prob(value).mean(axis=-1)", "multi_discrete"),
    ("padding of multi-discrete can be drawn", "constant_values=lowest", "constant_values=0", "multi_discrete"),
]  # fmt: skip

GAUSSIAN = [
    ("Gaussian with variance for deviation", "(value - self.mean) * jnp.exp(-self.log_std)", "(value - self.mean) * jnp.exp(-0.5 * self.log_std)", "diagonal_gaussian"),
    ("Gaussian without its normalisation", "+ self.log_std + 0.5 * _LOG_2PI", "+ self.log_std", "diagonal_gaussian"),
    ("missing tanh Jacobian", "return self.base.log_prob(raw) - self._log_slope(raw)", "return self.base.log_prob(raw)", "tanh_gaussian_density"),
    ("tanh Jacobian with the sign flipped", "self.base.log_prob(raw) - self._log_slope(raw)", "self.base.log_prob(raw) + self._log_slope(raw)", "tanh_gaussian_density"),
    ("scale of the box missing from the Jacobian", "self.base.sum_event(_log_tanh_slope(raw) + jnp.log((self.high - self.low) / 2))", "self.base.sum_event(_log_tanh_slope(raw))", "tanh_gaussian_density"),
    ("Jacobian as log(1 − tanh²), which is log 0 at saturation", "2 * (math.log(2) - raw - jax.nn.softplus(-2 * raw))", "jnp.log(1 - jnp.tanh(raw) ** 2)", "tanh_gaussian_saturation"),
    ("saturated action inverted to infinity", "jnp.clip(squashed, -inside, inside)", "squashed", "tanh_gaussian_saturation"),
    ("action outside the box scored as one on its bound", "jnp.where(possible, log_prob, limits.min)", "log_prob", "actions_off_range"),
    ("entropy of the Gaussian before the tanh", "self.base.entropy() + self.base.sum_event(slope)", "self.base.entropy()", "tanh_gaussian_entropy"),
]  # fmt: skip

MUTANTS = [
    Mutant(module, *rest)
    for module, rows in (
        ("returns.estimators", RETURNS), ("returns.recursion", RECURSION), ("returns.off_policy", OFF_POLICY),
        ("returns.importance_sampling", IMPORTANCE_SAMPLING),
        ("losses.value", VALUE),
        ("losses.distributional", DISTRIBUTIONAL), ("losses.policy_gradient", POLICY_GRADIENT),
        ("losses.divergences", DIVERGENCES), ("losses.ratios", RATIOS), ("losses.centering", CENTERING), ("losses.groups", GROUPS),
        ("losses.token_losses", TOKEN_LOSSES), ("exploration.selection", EXPLORATION),
        ("exploration.bandits", BANDITS),
        ("schedules", SCHEDULES), ("distributions.discrete", DISCRETE), ("distributions.gaussian", GAUSSIAN),
    )
    for rest in rows
]  # fmt: skip
