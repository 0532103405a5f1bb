"""Dynamic programming against SciPy, NumPy and pymdptoolbox: `python benchmarks/dynamic_programming.py`.

Three parts, each timed in turn with its peers in one process, medians and least and greatest ratios over the rounds:
  sweep   value iteration on a random MDP of a million states, a sweep, against the backup as a SciPy CSR product;
  policy  policy iteration on FrozenLake 8x8 against the same in NumPy, and pymdptoolbox where it is installed;
  batch   a value-iteration sweep of 10,000 MDPs at once against a NumPy loop over a hundred of them, scaled up.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from purerl import mdp as mdps

DISCOUNT = np.float32(0.99)
RESULTS = Path(__file__).parent / "results" / "dynamic_programming.json"


def in_turn(programs: dict[str, Callable[[], object]], rounds: int, ours: str, work: dict[str, float]) -> dict:
    """Seconds a unit of work of each program, and the peers' time over ours.

    `seconds` is the median, `least` the least of the rounds; `ratio` the median, least and greatest of the ratios
    paired round by round, `ratio_of_least` that of the least times, which a busy machine disturbs least.
    """
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for round_ in range(rounds + 1):
        for name, program in programs.items():
            begin = time.perf_counter()
            jax.block_until_ready(program())
            if round_:
                seconds[name].append((time.perf_counter() - begin) / work.get(name, 1))
    report: dict = {n: {"seconds": statistics.median(times), "least": min(times)} for n, times in seconds.items()}
    for name in programs.keys() - {ours}:
        ratios = [theirs / mine for theirs, mine in zip(seconds[name], seconds[ours])]
        report[name]["ratio"] = [statistics.median(ratios), min(ratios), max(ratios)]
        report[name]["ratio_of_least"] = min(seconds[name]) / min(seconds[ours])
    return report


def sweep(rounds: int, num_states: int = 1_000_000, num_sweeps: int = 5) -> dict:
    """A sweep, each side with its arrays ready; `solver` is a whole call of value iteration, laying out included."""
    mdp = mdps.random_mdp(jax.random.key(0), num_states, 4, 3, termination=0.01)
    weight = np.asarray(mdp.probability * ~mdp.terminated)
    reward = np.asarray(jnp.sum(mdp.probability * mdp.reward, -1))
    next_state, (_, num_actions, num_outcomes) = np.asarray(mdp.next_state), mdp.next_state.shape
    starts = np.arange(num_states * num_actions + 1, dtype=np.int32) * num_outcomes

    def csr(by_action: bool) -> Callable[[], np.ndarray]:
        order = (1, 0, 2) if by_action else (0, 1, 2)
        arrays = (weight.transpose(order).ravel(), next_state.transpose(order).ravel(), starts)
        matrix = scipy.sparse.csr_matrix(arrays, shape=(num_states * num_actions, num_states))
        expected = np.ascontiguousarray(reward.T if by_action else reward)
        axis = 0 if by_action else 1

        def run() -> np.ndarray:
            value = np.zeros(num_states, np.float32)
            for _ in range(num_sweeps):
                value = (expected + DISCOUNT * (matrix @ value).reshape(expected.shape)).max(axis)
            return value

        return run

    from purerl.mdp import backup

    @jax.jit
    def swept(arrays: backup.Layout) -> jax.Array:
        body = lambda _, value: backup.best(backup.sweep(arrays, value, DISCOUNT))  # noqa: E731
        return jax.lax.fori_loop(0, num_sweeps, body, jnp.zeros(num_states))

    arrays = jax.block_until_ready(jax.jit(backup.layout)(mdp))
    programs = {
        "purerl": lambda: swept(arrays),
        "solver": lambda: mdps.value_iteration(mdp, DISCOUNT, 0, num_sweeps).value,
        "csr": csr(by_action=False),
        "csr_by_action": csr(by_action=True),
    }
    np.testing.assert_allclose(programs["purerl"](), programs["csr"](), atol=1e-4)
    np.testing.assert_allclose(programs["solver"](), programs["csr_by_action"](), atol=1e-4)
    return in_turn(programs, rounds, "purerl", dict.fromkeys(programs, num_sweeps))


def numpy_policy_iteration(transition: np.ndarray, reward: np.ndarray, discount: float) -> np.ndarray:
    """Howard's algorithm in float64: `np.linalg.solve`, then argmax, until no action changes."""
    states = np.arange(len(reward))
    action = np.zeros(len(reward), int)
    while True:
        value = np.linalg.solve(np.eye(len(reward)) - discount * transition[states, action], reward[states, action])
        q = reward + discount * transition @ value
        better = np.where(q.max(1) > q[states, action] + 1e-10, q.argmax(1), action)
        if (better == action).all():
            return value
        action = better


def policy(rounds: int) -> dict:
    """Whole solves of FrozenLake 8x8, and of 256 lakes at 256 discounts in one call, a solve."""
    mdp = mdps.from_gymnasium("FrozenLake8x8-v1")
    weight = np.asarray(mdp.probability, np.float64) * ~np.asarray(mdp.terminated)
    transition = np.einsum("sak,sakt->sat", weight, np.eye(64)[np.asarray(mdp.next_state)])
    reward = np.asarray(jnp.sum(mdp.probability * mdp.reward, -1), np.float64)
    discounts = jnp.linspace(0.9, 0.99, 256)
    batched = jax.jit(jax.vmap(lambda gamma: mdps.policy_iteration(mdp, gamma).value))
    programs: dict[str, Callable[[], object]] = {
        "purerl": lambda: mdps.policy_iteration(mdp, 0.99).value,
        "purerl_256_discounts": lambda: batched(discounts),
        "numpy": lambda: numpy_policy_iteration(transition, reward, 0.99),
    }
    try:
        from mdptoolbox.mdp import PolicyIteration
    except ImportError:
        print("pymdptoolbox is not installed: left out")
    else:
        # it knows no endings: one more state takes what leaves, and stays
        closed = np.zeros((4, 65, 65))
        closed[:, :64, :64] = transition.transpose(1, 0, 2)
        closed[:, :, 64] = np.maximum(1 - closed.sum(-1), 0)
        closed /= closed.sum(-1, keepdims=True)
        closed_reward = np.vstack([reward, np.zeros((1, 4))])

        def toolbox() -> np.ndarray:
            solver = PolicyIteration(closed, closed_reward, 0.99)
            solver.run()
            return np.asarray(solver.V)[:64]

        programs["pymdptoolbox"] = toolbox
        np.testing.assert_allclose(toolbox(), programs["numpy"](), atol=1e-5)
    np.testing.assert_allclose(programs["purerl"](), programs["numpy"](), atol=1e-5)
    return in_turn(programs, rounds, "purerl", {"purerl_256_discounts": 256})


def batch(rounds: int, num_mdps: int = 10_000, num_sweeps: int = 10, looped: int = 100) -> dict:
    """A sweep of one MDP (S = 64, A = 4, K = 3), out of 10,000 vmapped, or out of a NumPy loop."""
    keys = jax.random.split(jax.random.key(0), num_mdps)
    many = jax.block_until_ready(jax.jit(jax.vmap(lambda key: mdps.random_mdp(key, 64, 4, 3)))(keys))
    vmapped = jax.jit(jax.vmap(lambda mdp: mdps.value_iteration(mdp, DISCOUNT, 0, num_sweeps).value))
    arrays = [np.asarray(field[:looped]) for field in many[:3]]
    expected = (arrays[1] * arrays[2]).sum(-1)

    def loop() -> np.ndarray:
        values = np.zeros((looped, 64), np.float32)
        for i in range(looped):
            for _ in range(num_sweeps):
                going_on = (arrays[1][i] * values[i][arrays[0][i]]).sum(-1)
                values[i] = (expected[i] + DISCOUNT * going_on).max(-1)
        return values

    np.testing.assert_allclose(vmapped(many)[:looped], loop(), atol=1e-4)
    work = {"purerl": num_mdps * num_sweeps, "numpy": looped * num_sweeps}
    return in_turn({"purerl": lambda: vmapped(many), "numpy": loop}, rounds, "purerl", work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"sweep": sweep, "policy": policy, "batch": batch}
    parser.add_argument("--only", nargs="*", choices=parts, default=list(parts))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = json.loads(options.output.read_text()) if options.output.exists() else {}
    for name in options.only:
        found[name] = parts[name](options.rounds)
        for program, figures in found[name].items():
            line = f"{name:8s}{program:24s}{1e6 * figures['seconds']:12.2f} us, least {1e6 * figures['least']:12.2f}"
            if "ratio" in figures:
                line += "  times purerl {:.2f} ({:.2f} to {:.2f})".format(*figures["ratio"])
                line += f", least by least {figures['ratio_of_least']:.2f}"
            print(line, flush=True)
    found["machine"] = {"device": jax.devices()[0].device_kind, "jax": jax.__version__, "rounds": options.rounds}
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
