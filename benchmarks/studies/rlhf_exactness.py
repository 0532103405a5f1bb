"""Distance to the exact optimum of every method on the enumerable token task (8 tokens, 4 long, 4,096 texts, β = 1).

    python -m benchmarks.studies.rlhf_exactness [--seeds 3] [--only rloo ppo ...] [--output FILE]

The record lies in benchmarks/results/rlhf_exactness.json; rows of FILE that are not run stay as they are.

Each seed is another task and another run. Total variation is to the method's own optimum, found by enumeration.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl import losses
from purerl.combinators.minibatches import with_minibatches, with_sampler
from purerl.experiments import goodhart
from purerl.rlhf import direct, group_policy, models, policy, reward_models, rollouts, supervised, tokens

VOCAB, LENGTH, BETA = 8, 4, 1.0
NETWORKS = {order: models.table_network(VOCAB, LENGTH, order) for order in (1, 3)}
REWARD = goodhart.additive_reward(VOCAB, LENGTH)
ENV = tokens.token_env(
    np.zeros((1, 1), int), lambda t, _, task: goodhart.reward(task, t), LENGTH, -1, -1, vocab_size=VOCAB
)
AGENTS = {
    "rloo": group_policy.rloo(NETWORKS[1], 8),
    "ppo": policy.ppo(NETWORKS[3], normalize_advantage=False, num_epochs=1, num_minibatches=2),
    "k1_in_loss": policy.ppo(
        NETWORKS[3], normalize_advantage=False, num_epochs=1, num_minibatches=2, kl_in="loss", kl_kind="k1"
    ),
}


def all_pairs(logp, ref, lengths, hparams):
    """DPO's loss, mean over all pairs of a ranked list."""
    return losses.pairwise_ranking(hparams.beta * (logp - ref))


LOSSES = {("dpo", 1): "dpo", ("ipo", 3): "ipo", ("plackett_luce", 1): "plackett_luce", ("all_pairs", 1): all_pairs}
DIRECT = {key: direct.direct_alignment(NETWORKS[key[1]], loss) for key, loss in LOSSES.items()}


class Setup:
    """One task with everything about it that enumeration gives."""

    def __init__(self, seed):
        self.key = jax.random.key(seed)
        self.task = goodhart.token_task(self.key)
        self.reward = goodhart.all_rewards(self.task)
        self.ref = goodhart.all_log_probs(NETWORKS[1], goodhart.reference_params(self.task, 1), self.task.texts)
        self.optimum = losses.kl_regularized_optimum(self.ref, self.reward, BETA)

    def distance(self, order, params, optimum=None):
        """Total variation to the optimum, and the log-probabilities themselves."""
        found = goodhart.all_log_probs(NETWORKS[order], params, self.task.texts)
        return float(goodhart.total_variation(found, self.optimum if optimum is None else optimum)), found


def policy_gradient(setup, name, *, order, num_updates, learning_rate, group_size=1):
    agent = AGENTS[name]
    hparams = policy.RLHFHparams(learning_rate, BETA, max_grad_norm=1e9, anneal_updates=num_updates, gae_lambda=1.0)
    state = policy.initial_state(agent, setup.key, hparams, ENV, goodhart.reference_params(setup.task, order))
    state, _ = purerl.train(
        setup.key, agent, ENV, hparams, num_updates=num_updates, num_envs=1024, rollout_length=LENGTH,
        env_params=setup.task, state=state, rollout=ROLLOUTS[order, group_size],
    )  # fmt: skip
    return {"tv": setup.distance(order, state.params)[0]}


ROLLOUTS = {
    (order, group): rollouts.token_rollout(NETWORKS[order], eos_id=-1, pad_id=-1, group_size=group)
    for order, group in [(1, 8), (3, 1)]
}


def fit_direct(setup, name, order, data, agent, *, num_updates, learning_rate, optimum=None):
    hparams = supervised.LearnerHparams(learning_rate, 1e9, num_updates, BETA)
    state = agent.init(setup.key, hparams, data)
    state = set_params(state, goodhart.reference_params(setup.task, order))
    state, _ = purerl.fit(setup.key, agent, data, hparams, num_updates=num_updates, state=state)
    tv, found = setup.distance(order, state.agent.params, optimum)
    implicit = BETA * (found - setup.ref)
    return {"tv": tv, "correlation": float(weighted_correlation(implicit, setup.reward, jnp.exp(setup.ref)))}


def set_params(state, params):
    return state._replace(agent=state.agent._replace(params=params))


def weighted_correlation(x, y, weights):
    x, y = x - (weights * x).sum(), y - (weights * y).sum()
    return (weights * x * y).sum() / jnp.sqrt((weights * x * x).sum() * (weights * y * y).sum())


def fresh(key, data):
    task, ref = data
    return goodhart.ranked_texts(key, task, ref, 4096)


def fixed(setup, rows, k=2):
    return goodhart.ranked_texts(jax.random.fold_in(setup.key, 7), setup.task, setup.ref, rows, k)


FRESH = {name: with_sampler(agent, fresh) for name, agent in DIRECT.items() if name[0] in ("dpo", "ipo")}
PARTS = {name: with_minibatches(agent, 4096) for name, agent in DIRECT.items() if name[0] != "ipo"}


def run_rloo(setup):
    return policy_gradient(setup, "rloo", order=1, num_updates=500, learning_rate=0.05, group_size=8)


def run_ppo(setup):
    return policy_gradient(setup, "ppo", order=3, num_updates=400, learning_rate=0.1)


def run_k1_in_loss(setup):
    return policy_gradient(setup, "k1_in_loss", order=3, num_updates=200, learning_rate=0.1)


def run_dpo_fresh(setup):
    data = (setup.task, setup.ref)
    return fit_direct(setup, "dpo", 1, data, FRESH["dpo", 1], num_updates=2000, learning_rate=0.1)


def run_dpo_100k(setup):
    return fit_direct(setup, "dpo", 1, fixed(setup, 100_000), PARTS["dpo", 1], num_updates=600, learning_rate=0.1)


def run_plackett_luce_20k(setup):
    """The same 20,000 lists of 4 three times: as rankings, as one random pair of each, as all six pairs of each."""
    lists = fixed(setup, 20_000, 4)
    kept = jnp.sort(
        jnp.argsort(jax.random.uniform(jax.random.fold_in(setup.key, 9), (20_000, 4)), axis=1)[:, :2], axis=1
    )
    one_pair = {name: jax.vmap(lambda row, i: row[i])(column, kept) for name, column in lists.items()}
    data = {"plackett_luce": lists, "dpo": one_pair, "all_pairs": lists}
    sizes = {"num_updates": 500, "learning_rate": 0.1}
    found = {name: fit_direct(setup, name, 1, rows, PARTS[name, 1], **sizes)["tv"] for name, rows in data.items()}
    return {"tv": found["plackett_luce"], "one_pair_tv": found["dpo"], "six_pairs_tv": found["all_pairs"]}


def run_ipo(setup):
    """IPO on fresh pairs of the reference has the optimum π_ref exp(P(y beats a draw of the reference) / β) / Z."""
    win = jax.nn.sigmoid(setup.reward[:, None] - setup.reward) @ jnp.exp(setup.ref)
    optimum = losses.kl_regularized_optimum(setup.ref, win, BETA)
    data = (setup.task, setup.ref)
    return fit_direct(setup, "ipo", 3, data, FRESH["ipo", 3], num_updates=1000, learning_rate=0.03, optimum=optimum)


REWARD_AGENT = reward_models.reward_model(REWARD)


def run_reward_model_20k(setup):
    hparams = supervised.LearnerHparams(0.1, 1e9, 300)
    state, _ = purerl.fit(setup.key, REWARD_AGENT, fixed(setup, 20_000), hparams, num_updates=300)
    held_out = goodhart.ranked_texts(jax.random.fold_in(setup.key, 8), setup.task, setup.ref, 100_000)
    learned = reward_models.rewards(REWARD, state.params, held_out)
    bayes = jnp.mean(held_out["reward"][:, 0] > held_out["reward"][:, 1])
    accuracy = jnp.mean(learned[:, 0] > learned[:, 1])
    return {"accuracy": float(accuracy), "bayes": float(bayes), "gap": float(bayes - accuracy)}


RUNS = {name[4:]: function for name, function in globals().items() if name.startswith("run_")}

AT_MOST = {
    ("rloo", "tv"): 0.005,
    ("ppo", "tv"): 0.02,
    ("dpo_fresh", "tv"): 0.02,
    ("dpo_100k", "tv"): 0.05,
    ("ipo", "tv"): 0.02,
    ("reward_model_20k", "gap"): 0.01,
}
AT_LEAST = {("k1_in_loss", "tv"): 0.5, ("dpo_fresh", "correlation"): 0.995}


def misses(name, found):
    """Figures of a row that lie beyond its bound."""
    bad = [f"{key} > {AT_MOST[name, key]}" for key in found if found[key] > AT_MOST.get((name, key), np.inf)]
    bad += [f"{key} < {AT_LEAST[name, key]}" for key in found if found[key] < AT_LEAST.get((name, key), -np.inf)]
    pairwise = min(found.get("one_pair_tv", np.inf), found.get("six_pairs_tv", np.inf))
    return bad + ["the rankings lose to pairs"] * (found.get("tv", 0.0) >= pairwise)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--output")
    options = parser.parse_args()
    output = Path(options.output) if options.output else None
    results = json.loads(output.read_text())["results"] if output and output.exists() else {}
    for name in options.only:
        results[name] = []
        for seed in range(options.seeds):
            start, cpu = time.perf_counter(), time.process_time()
            found = RUNS[name](Setup(seed))
            found["seconds"] = round(time.perf_counter() - start, 1)
            found["cpu_seconds"] = round(time.process_time() - cpu, 1)
            results[name].append(found)
            print(name, seed, {k: round(v, 4) for k, v in found.items()}, *misses(name, found), flush=True)
    if output:
        output.write_text(
            json.dumps({"command": "python -m benchmarks.studies.rlhf_exactness", "results": results}, indent=1)
        )


if __name__ == "__main__":
    main()
