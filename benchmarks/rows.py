"""The rows of the suite: what is measured, and on which sides."""

from __future__ import annotations

from typing import Any, NamedTuple

# gymnax's environments, in all of which rollouts alone are measured, with random actions and with a network's.
GYMNAX = (
    "CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0",
    "Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar", "SpaceInvaders-MinAtar",
    "Catch-bsuite", "DeepSea-bsuite", "MemoryChain-bsuite", "UmbrellaChain-bsuite", "DiscountingChain-bsuite",
    "MNISTBandit-bsuite", "SimpleBandit-bsuite", "FourRooms-misc", "MetaMaze-misc", "PointRobot-misc",
    "BernoulliBandit-misc", "GaussianBandit-misc", "Reacher-misc", "Swimmer-misc", "Pong-misc", "FrozenLake-misc",
)  # fmt: skip


class Row(NamedTuple):
    """One comparison.

    Attributes:
      name: "group/what/size".
      workload: the work, as every side's worker takes it.
      peers: the sides beside purerl's.
      unit: what is counted.
      series: it runs in turn with the rows whose names differ in the last part, and with no peer.
    """

    name: str
    workload: dict[str, Any]
    peers: tuple[str, ...] = ()
    unit: str = "environment steps"
    series: bool = False

    @property
    def group(self) -> str:
        """The first part of the name."""
        return self.name.partition("/")[0]

    @property
    def turn(self) -> str:
        """Rows that share it run in turn."""
        return self.name.rpartition("/")[0] if self.series else self.name

    @property
    def tries_one_core(self) -> bool:
        """Whether sides that run JAX may do so on one core; a population is spread over all of them."""
        return self.workload["kind"] in ("train", "update", "acting") and not self.workload.get("population")


def _train(algorithm: str, env: str, num_envs: int, length: int, num_updates: int, *peers: str, **more: Any) -> Row:
    sizes = {"num_envs": num_envs, "rollout_length": length, "num_updates": num_updates, "population": 0} | more
    population = f"/{sizes['population']} agents" if sizes["population"] else ""
    batch = f", batch {more['batch_size']}" if "batch_size" in more else ""
    name = f"{algorithm}/{env}/{num_envs}x{length}{batch}{population}"
    return Row(name, {"kind": "train", "algorithm": algorithm, "env": env, **sizes}, peers)


def _ppo() -> list[Row]:
    rows = [
        _train("ppo", "CartPole-v1", 4, 128, 200, "rejax", "plain", "sb3", "sbx"),
        _train("ppo", "CartPole-v1", 64, 128, 20, "rejax", "plain", "sb3", "sbx"),
        _train("ppo", "CartPole-v1", 2048, 32, 4, "rejax", "plain"),
        _train("ppo", "Acrobot-v1", 64, 128, 10, "rejax", "plain"),
        _train("ppo", "Pendulum-v1", 64, 128, 20, "rejax"),
        _train("ppo", "Breakout-MinAtar", 64, 128, 5, "rejax", "plain"),
    ]
    updates = {8: 50, 64: 10, 256: 3, 1024: 1}
    rows += [_train("ppo", "CartPole-v1", 4, 128, n, "rejax", "plain", population=p) for p, n in updates.items()]
    return rows


def _replay_agents() -> list[Row]:
    dqn = {"capacity": 50_000, "batch_size": 128}
    real, peers = [(1, 64, 2_000), (1, 256, 2_000), (8, 256, 2_000)], ("rejax", "sb3", "sbx")
    return [
        _train("double_dqn", "CartPole-v1", 10, 1, 3_000, "rejax", **dqn),
        _train("dqn", "CartPole-v1", 10, 1, 3_000, "sb3", "sbx", **dqn),  # which have no double Q-learning
        *[
            _train(name, "Pendulum-v1", n, length, updates // length, *peers, capacity=100_000, batch_size=batch)
            for name, length in (("sac", 1), ("td3", 2))  # TD3's actor learns from every second step
            for n, batch, updates in real
        ],
    ]


def _pieces() -> list[Row]:
    environments = [
        Row(f"rollout/{env}/64", {"kind": "rollout", "env": env, "num_envs": 64, "length": 500}, ("gymnax",))
        for env in GYMNAX
    ]
    acting = [Row(f"acting/{env}/64", {"kind": "acting", "env": env, "num_envs": 64, "length": 500}) for env in GYMNAX]
    updates = [
        Row(f"update/ppo/{n}x{t}", {"kind": "update", "num_envs": n, "rollout_length": t}, unit="transitions")
        for n, t in ((4, 128), (64, 128), (2048, 32))
    ]
    replay = [
        Row(
            f"replay/{kind}/{capacity:,}",
            {"kind": "replay", "priority": kind == "prioritized", "capacity": capacity},
            ("flashbax",),
            "draws of 128",
        )
        for kind in ("uniform", "prioritized")
        for capacity in (10_000, 100_000, 1_000_000)
    ]
    returns = [
        Row(f"returns/{name}/128x4096", {"kind": "returns", "name": name}, ("rlax",), "steps")
        for name in ("gae", "lambda_returns")
    ]
    return [*environments, *acting, *updates, *replay, *returns]


def _tables_and_tokens() -> list[Row]:
    return [
        *[
            Row(f"tabular/q_learning/{n} agents", {"kind": "q_learning", "num_agents": n}, ("numpy",))
            for n in (1, 32, 1000)
        ],
        Row("mdp/value_iteration/10^6 states", {"kind": "value_iteration"}, ("scipy",), "sweeps"),
        Row("mdp/value_iteration/10,000 MDPs", {"kind": "value_iterations"}, ("numpy",), "sweeps of one MDP"),
        Row("mdp/policy_iteration/FrozenLake8x8", {"kind": "policy_iteration"}, ("numpy",), "solves"),
        *[
            Row(f"generation/{size}", {"kind": "generation", "size": size}, ("uncached",), "tokens")
            for size in ("small", "large")
        ],
        *[Row(f"dpo/{size}", {"kind": "dpo", "size": size}, unit="gradient steps") for size in ("small", "large")],
    ]


def _scaling() -> list[Row]:
    """Environments from 4 to 65,536 with some 2^18 steps a run, and agents from 1 to 1,024.

    Three updates at least: the first one maps the memory, which takes a tenth of its time.
    """
    environments = [
        _train("ppo", "CartPole-v1", n, 32, max(3, 2**13 // n))._replace(name=f"scaling/environments/{n}")
        for n in (4, 16, 64, 256, 1024, 4096, 16384, 65536)
    ]
    agents = [
        _train("ppo", "CartPole-v1", 4, 128, max(3, 256 // n), population=n)._replace(name=f"scaling/agents/{n}")
        for n in (1, 4, 16, 64, 256, 1024)
    ]
    return [row._replace(series=True) for row in (*environments, *agents)]


ROWS = {
    row.name: row
    for row in (
        *_ppo(),
        *_replay_agents(),
        _train("pqn", "CartPole-v1", 32, 64, 60, "rejax"),
        _train("recurrent_ppo", "CartPole-v1", 64, 128, 10),
        *_pieces(),
        *_tables_and_tokens(),
        *_scaling(),
    )
}


def chosen(beginnings: list[str]) -> list[Row]:
    """The rows whose name begins with one of these; all if there are none.

    Raises:
      ValueError: one of them fits no row.
    """
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in ROWS):
            groups = ", ".join(dict.fromkeys(row.group for row in ROWS.values()))
            raise ValueError(f"no row begins with {beginning!r}; the groups are {groups}")
    return [row for name, row in ROWS.items() if not beginnings or name.startswith(tuple(beginnings))]
