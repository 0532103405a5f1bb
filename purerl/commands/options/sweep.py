"""Options of `purerl sweep`: which of them go together, and how those of a search are restored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from purerl.commands.options import (
    Output,
    Setup,
    UsageError,
    count,
    flag,
    one_of,
    option,
    parse_count_or_zero,
    parse_number,
    seed,
    several,
)
from purerl.text import parse_bytes, parse_count


def _at_least_two(text: str) -> int:
    if (number := parse_count(text)) < 2:
        raise ValueError(f"{text!r} is not a whole number of at least 2")
    return number


@dataclasses.dataclass(frozen=True)
class Population:
    """With --schedule pbt only: after each round the worst members are replaced by copies of the best."""

    rounds: int = count("Number of rounds that the training is cut into.", 20)
    exploit_fraction: float = option(
        "Share of the members that is replaced after a round.", 0.2, parse=parse_number(0, 1), metavar="SHARE"
    )
    resample_probability: float = option(
        "Probability that a hyperparameter of a copy is resampled; otherwise it is perturbed by one of the factors.",
        0.25,
        parse=parse_number(0, 1),
        metavar="P",
    )
    perturb_factors: tuple[float, ...] = several(
        "The factors.", (0.8, 1.2), parse=parse_number(low=0.0), metavar="FACTOR", shown="0.8 1.2"
    )


@dataclasses.dataclass(frozen=True)
class Options:
    """Search hyperparameters: all trials and seeds are trained side by side in one program, evaluated and ranked.

    Without options: 64 random trials x 2 seeds of PPO on CartPole-v1. The table, the figures and the best policy are
    saved in runs/NAME/; `purerl evaluate NAME` plays the policy, `purerl report NAME` writes a page about the search.
    Results are saved as they finish: after Ctrl-C, a crash or a power cut, `purerl sweep --resume NAME` resumes the
    search and ends with the same table.
    """

    EXAMPLES: ClassVar = (
        "purerl sweep --env Acrobot-v1 --space learning_rate=log_uniform:1e-4,1e-2",
        "purerl sweep --num-trials 1024 --num-steps 400k --schedule halving",
    )

    setup: Setup = dataclasses.field(default_factory=Setup)
    output: Output = dataclasses.field(default_factory=Output)
    num_trials: int = count(
        "Number of trials; a grid takes all of its points. With pbt: members of the population.", 64
    )
    num_seeds: int | None = count("Agents of each trial, differing only in their seed.", shown="2")
    num_steps: int | None = count(
        "Environment steps of each agent that is trained to the end, such as 100k or 1e5.", shown="100_000"
    )
    space: tuple[str, ...] = several(
        "What is searched: uniform:LOW,HIGH, log_uniform:LOW,HIGH, integers:LOW,HIGH, choice:A,B,... or a number. A "
        "grid needs points: uniform:0.9,1,points=5. The space may also name parameters of the environment "
        "(env.length=uniform:0.3,0.8) and settings of which each value compiles once: num_envs=choice:4,16 "
        "rollout_length=choice:32,128 agent.num_epochs=choice:4,10 network.hidden='choice:64,64|256,256'.",
        metavar="NAME=SPACE",
        shown="the preset's",
    )
    method: str = option(
        "random, sobol (a low-discrepancy sequence) or grid (every combination).",
        "random",
        parse=one_of("random", "sobol", "grid"),
        metavar="METHOD",
    )
    schedule: str = option(
        "full: train every trial to the end. halving, hyperband: stop the worse trials early. pbt: population-based "
        "training, one population whose hyperparameters change while it learns.",
        "full",
        parse=one_of("full", "halving", "hyperband", "pbt"),
        metavar="SCHEDULE",
    )
    eta: int = option(
        "halving, hyperband: each rung keeps 1/eta of the trials and trains them eta times as long.",
        4,
        parse=_at_least_two,
        metavar="N",
    )
    rungs: int = count("Rungs of halving, or brackets of Hyperband.", 3)
    stop_clearly_worse: bool = flag(
        "Also stop survivors of a rung whose confidence interval lies below that of the median survivor. It takes at "
        "least 3 seeds."
    )
    population: Population = dataclasses.field(default_factory=Population)
    confirm: int = option(
        "Number of the best trials that are trained again on fresh seeds, because the best of many is optimistic.",
        0,
        parse=parse_count_or_zero,
        metavar="N",
    )
    confirm_seeds: int = count("Number of fresh seeds.", 8)
    seed: int = seed("Random seed.")
    block_size: int | None = count(
        "Largest number of agents that one program trains side by side.", shown="16 per CPU core, or all that fit"
    )
    memory_limit: int | None = option(
        "Memory that a block of agents may take on each device, such as 800MB or 4GiB.",
        parse=parse_bytes,
        metavar="SIZE",
        shown="most of the free memory",
    )
    eval_episodes: int = count("Greedy episodes that each agent plays after each rung or round.", 16)
    top: int = count("Rows of the table on the terminal; trials.csv has all of them.", 10)
    ray: str | None = option(
        "Run the blocks with Ray: on a cluster (its address, or auto) or on this machine (local).",
        metavar="ADDRESS|local",
        shown="in this process",
    )
    distributed: str | None = option(
        "Spread the agents over N processes that all run this command. This is process I of 0 to N-1; process 0 waits "
        "at HOST:PORT. auto: Slurm, Open MPI, Kubernetes or a TPU pod provides these. It needs a --name.",
        metavar="auto|HOST:PORT,N,I",
        shown="one process",
    )
    resume: str | None = option(
        "Resume a search, by name or directory. Its settings stay as they are.", metavar="RUN", optional_value=""
    )

    @property
    def seeds(self) -> int:
        """Agents of each trial."""
        return self.num_seeds or 2


_STOPPING = ("halving", "hyperband")
_SEARCHES = ("full", *_STOPPING)
_ONLY_FOR = (
    dict.fromkeys(("eta", "rungs", "stop_clearly_worse"), _STOPPING)
    | dict.fromkeys(("num_seeds", "method", "confirm", "confirm_seeds", "block_size", "memory_limit", "ray"), _SEARCHES)
    | dict.fromkeys((field.name for field in dataclasses.fields(Population)), ("pbt",))
)


def check(options: Options) -> None:
    """Reject options that do not go together.

    Raises:
      UsageError: an option that has no effect with the schedule; it is named.
    """
    typed, default = ({**vars(each), **vars(each.population)} for each in (options, Options()))
    for name, schedules in _ONLY_FOR.items():
        if typed[name] != default[name] and options.schedule not in schedules:
            raise UsageError(
                f"--{name.replace('_', '-')} has no effect with --schedule {options.schedule}; it is an option of "
                f"--schedule {', '.join(schedules)}"
            )
    if options.distributed and options.ray:
        raise UsageError("--ray and --distributed are mutually exclusive")


def restored(options: Options, saved: Mapping[str, Any]) -> Options:
    """The options that a search was started with, from its `config.json`.

    Raises:
      UsageError: other options are given beside the name of the search.
    """
    if dataclasses.replace(options, output=Output(), distributed=None, resume=None) != Options():
        raise UsageError("--resume keeps the settings of the search: give no options but --runs-dir and --distributed")
    fields: dict[str, Any] = dict(saved)
    setup, population = Setup(**fields.pop("setup")), Population(**fields.pop("population", {}))
    known = {field.name for field in dataclasses.fields(Options)} - {"output", "distributed", "resume"}
    rest: dict[str, Any] = {name: value for name, value in fields.items() if name in known}
    if isinstance(rest.get("memory_limit"), str):
        rest["memory_limit"] = parse_bytes(rest["memory_limit"])
    return Options(
        setup=setup, output=options.output, population=population, distributed=options.distributed,
        resume=options.resume, **rest,
    )  # fmt: skip
