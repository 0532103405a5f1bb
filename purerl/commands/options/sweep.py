"""Options of `purerl sweep`: which of them go together, and how those of a search are restored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from purerl.accelerators.targets import ALIASES, TARGETS
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
    services,
    several,
)
from purerl.text import parse_bytes, parse_count

DEVICES = ("here", *TARGETS, *ALIASES)


def _at_least_two(text: str) -> int:
    if (number := parse_count(text)) < 2:
        raise ValueError(f"{text!r} is not a whole number of at least 2")
    return number


def _schedule(text: str) -> str:
    """The name of a schedule, or `module:function` for one of the user's."""
    return text if ":" in text.strip(":") else one_of("full", "halving", "hyperband", "asha", "pbt")(text)


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
    num_elites: int = option(
        "Backtracking: keep as many of the best learners of earlier rounds, which members may copy too.",
        0,
        parse=parse_count_or_zero,
        metavar="N",
    )
    initial: str | None = option(
        "Begin with the best trials of a finished search of the same agent and environment, by name or directory.",
        metavar="RUN",
        shown="drawn from the space",
    )


def _count_or(word: str) -> Callable[[str], int | str]:
    return lambda text: word if text == word else parse_count(text)


@dataclasses.dataclass(frozen=True)
class Judging:
    """How trials are compared; not with --schedule pbt."""

    objective: str = option(
        "What is optimised: return, area (under the learning curve), curve (its end), steps:R or seconds:R (until it "
        "reaches R), or percentile:P (of the return, over the seeds).",
        "return",
        metavar="OBJECTIVE",
    )
    pareto: tuple[str, ...] = several(
        "Further objectives, or costs: steps, seconds (of training) and parameters (of an agent). Trials that no other "
        "one beats in all of them and in --objective, the Pareto front, are listed and drawn.",
        metavar="OBJECTIVE",
    )
    ties: tuple[str, ...] = several(
        "What orders trials with equal objectives: area (under the learning curve) and threshold (steps until it "
        "comes near its end, or to --threshold).",
        ("area", "threshold"),
        parse=one_of("area", "threshold"),
        metavar="CRITERION",
        shown="area threshold",
    )
    threshold: float | None = option(
        "Return that the criterion threshold waits for.", parse=parse_number(), metavar="R", shown="nine tenths of the "
        "trial's return",
    )  # fmt: skip
    curve: str = option("Metric of learning curves, such as episode_end/success.", "episode_return", metavar="METRIC")
    evaluate_in: str = option(
        "If parameters of the environment are searched: reference, the environment as it is, so that the easiest one "
        "does not win; or own, the one that a trial was trained in.",
        "reference",
        parse=one_of("reference", "own"),
        metavar="WHERE",
    )


@dataclasses.dataclass(frozen=True)
class Limits:
    """When the search stops early. What was measured so far is kept, and --resume takes other limits."""

    until: float | None = option(
        "Stop when a trial's objective is this good.", parse=parse_number(), metavar="R", shown="at the end"
    )
    max_steps: int | None = option(
        "Environment steps of all agents together.", parse=parse_count, metavar="N", shown="no limit"
    )
    max_hours: float | None = option(
        "Hours, earlier processes included.", parse=parse_number(low=0.0), metavar="H", shown="no limit"
    )
    max_cost: float | None = option(
        "Money, at --price-per-hour.", parse=parse_number(low=0.0), metavar="M", shown="no limit"
    )
    price_per_hour: float | None = option(
        "Price of this machine.", parse=parse_number(low=0.0), metavar="M", shown="unknown"
    )

    @property
    def max_seconds(self) -> float | None:
        """The time that it may take: by the clock, or by its price."""
        times = [] if self.max_hours is None else [3600 * self.max_hours]
        if self.max_cost is not None and self.price_per_hour:
            times.append(3600 * self.max_cost / self.price_per_hour)
        return min(times, default=None)


@dataclasses.dataclass(frozen=True)
class Options:
    """Search hyperparameters: all trials and seeds are trained side by side in one program, evaluated and ranked.

    Without options: 64 random trials x 3 seeds of PPO on CartPole-v1. The table, the figures and the best policy are
    saved in runs/NAME/; `purerl evaluate NAME` plays the policy, `purerl report NAME` writes a page about the search.
    Results are saved as they finish: after Ctrl-C, a crash or a power cut, `purerl sweep --resume NAME` resumes the
    search and ends with the same table.
    """

    EXAMPLES: ClassVar = (
        "purerl sweep --env Acrobot-v1 --space learning_rate=log_uniform:1e-4,1e-2",
        "purerl sweep --num-trials 1024 --num-steps 400k --schedule halving",
        "purerl sweep --space algorithm=choice:ppo,dqn,pqn",
    )

    setup: Setup = dataclasses.field(default_factory=Setup)
    output: Output = dataclasses.field(default_factory=Output)
    num_trials: int = count(
        "Number of trials; a grid takes all of its points. With pbt: members of the population.", 64
    )
    num_seeds: int | str | None = option(
        "Agents of each trial, differing only in their seed. auto: 3, and further ones where the best is undecided.",
        parse=_count_or("auto"),
        metavar="N|auto",
        shown="3",
    )
    num_steps: int | None = count(
        "Environment steps of each agent that is trained to the end, such as 100k or 1e5.", shown="100_000"
    )
    space: tuple[str, ...] = several(
        "What is searched: uniform:LOW,HIGH, log_uniform:LOW,HIGH, integers:LOW,HIGH, log_integers:LOW,HIGH, "
        "choice:A,B,... or a number. 'uniform:0.01,0.1 if OTHER=A|B' is searched only with these values of OTHER. A "
        "grid needs points: uniform:0.9,1,points=5. The space may also name parameters of the environment "
        "(env.length=uniform:0.3,0.8) and settings of which each value compiles once: num_envs=choice:4,16 "
        "rollout_length=choice:32,128 agent.num_epochs=choice:4,10 network.hidden='choice:64,64|256,256'. "
        "algorithm=choice:ppo,dqn,pqn compares algorithms, whose hyperparameters are then named dqn_learning_rate.",
        metavar="NAME=SPACE",
        shown="the preset's",
    )
    constraint: str | None = option(
        "Which trials make sense: module:function, a function of yours from a dict of what is searched to a truth.",
        metavar="MODULE:NAME",
        shown="all",
    )
    method: str = option(
        "random, sobol (a low-discrepancy sequence), grid (every combination); or in batches, each where a model of "
        "the trials before promises most: tpe (Parzen estimators) or gp (a Gaussian process).",
        "random",
        parse=one_of("random", "sobol", "grid", "tpe", "gp"),
        metavar="METHOD",
    )
    batch_size: int = count("tpe, gp: trials that are chosen together.", 16)
    schedule: str = option(
        "full: train every trial to the end. halving, hyperband: stop the worse trials early. asha: halving in which "
        "no worker of --ray waits for the end of a rung. pbt: population-based training, one population whose "
        "hyperparameters change while it learns. module:function: a purerl.sweep schedule of your own.",
        "full",
        parse=_schedule,
        metavar="SCHEDULE",
    )
    eta: int = option(
        "halving, hyperband: each rung keeps 1/eta of the trials and trains them eta times as long.",
        4,
        parse=_at_least_two,
        metavar="N",
    )
    rungs: int = count("Rungs of halving, or brackets of Hyperband.", 3)
    judging: Judging = dataclasses.field(default_factory=Judging)
    limits: Limits = dataclasses.field(default_factory=Limits)
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
    keep: int | str = option(
        "Number of the best trials whose trained states are kept, which --add-steps can train further.",
        10,
        parse=_count_or("all"),
        metavar="N|all",
    )
    seed: int = seed("Random seed.")
    block_size: int | str | None = option(
        "Largest number of agents that one program trains side by side; measured: the fastest one, which is tried and "
        "remembered.",
        None,
        parse=_count_or("measured"),
        metavar="N|measured",
        shown="16 per CPU core, or all that fit",
    )
    memory_limit: int | None = option(
        "Memory that a block of agents may take on each device, such as 800MB or 4GiB.",
        parse=parse_bytes,
        metavar="SIZE",
        shown="most of the free memory",
    )
    eval_episodes: int = count("Greedy episodes that each agent plays after each rung or round.", 16)
    eval_every: int | None = count(
        "Also evaluate all agents after about every N steps of each; their returns are then the learning curves, of "
        "which --objective area or steps:R is computed.",
        shown="after each rung",
    )
    callbacks: tuple[str, ...] = several(
        "Functions of yours, called with a purerl.sweep.Chunk whenever a block of agents has ended a part of its "
        "training; True ends the search.",
        metavar="MODULE:FUNCTION",
    )
    top: int = count("Rows of the table on the terminal; trials.csv has all of them.", 10)
    log: tuple[str, ...] = services("When the search ends, log its best trials (--top), each as one run,")
    ray: str | None = option(
        "Run the blocks with Ray: on a cluster (its address, or auto) or on this machine (local).",
        metavar="ADDRESS|local",
        shown="in this process",
    )
    ray_gpus: float | None = option(
        "GPUs of each block with --ray.", parse=parse_number(low=0.0), metavar="N", shown="1 if the cluster has any"
    )
    save_seconds: float = option(
        "Save the running block at least every this many seconds of training; a crash loses no more.",
        300.0,
        parse=parse_number(low=0.0),
        metavar="SECONDS",
        shown="300",
    )
    distributed: str | None = option(
        "Spread the agents over N processes that all run this command. This is process I of 0 to N-1; process 0 waits "
        "at HOST:PORT. auto: Slurm, Open MPI, Kubernetes or a TPU pod provides these. It needs a --name.",
        metavar="auto|HOST:PORT,N,I",
        shown="one process",
    )
    plan: str | None = option(
        "Do not search: print the widths of the blocks, their memory, disk, time and, with --price-per-hour, cost. "
        "here: measured on this machine; or modelled for an accelerator that need not be there, one of "
        f"{', '.join((*TARGETS, *ALIASES))}. Its compiler must be installed; the error says how.",
        parse=one_of(*DEVICES),
        metavar="DEVICE",
        shown="run the search",
    )
    resume: str | None = option(
        "Resume a search, by name or directory. Its settings stay as they are; limits may be others.",
        metavar="RUN",
        optional_value="",
    )
    add_trials: int | None = count(
        "With --resume: add this many trials. Under a schedule they are stopped among themselves; all are ranked "
        "together.",
        shown="none",
    )
    add_seeds: int | None = count(
        "With --resume: train every trial with this many further seeds, as far as it was trained.", shown="none"
    )
    add_steps: int | None = count(
        "With --resume: train the best trials of a finished search, those whose states were kept (--keep), for about "
        "this many further steps.",
        shown="none",
    )
    replay: int | None = option(
        "With --resume: train trial N of a finished search again, bit for bit, and compare it. Nothing is saved.",
        parse=parse_count_or_zero,
        metavar="N",
        shown="",
    )

    @property
    def seeds(self) -> int:
        """Agents of each trial, apart from those that `auto` adds."""
        return self.num_seeds if isinstance(self.num_seeds, int) else 3


ADDED = ("add_trials", "add_seeds", "add_steps")
_OWN = "module:function"
_STOPPING = ("halving", "hyperband", "asha")
_SEARCHES = ("full", *_STOPPING, _OWN)
_ONLY_FOR = (
    dict.fromkeys(("eta", "rungs", "stop_clearly_worse"), _STOPPING)
    | dict.fromkeys(
        ("num_seeds", "method", "confirm", "confirm_seeds", "keep", "block_size", "memory_limit", "ray", "log"),
        _SEARCHES,
    )
    | dict.fromkeys(("plan",), _SEARCHES)
    | dict.fromkeys(("ray_gpus", "save_seconds", "batch_size", "constraint", "eval_every", "callbacks"), _SEARCHES)
    | dict.fromkeys((field.name for each in (Judging, Limits) for field in dataclasses.fields(each)), _SEARCHES)
    | dict.fromkeys((field.name for field in dataclasses.fields(Population)), ("pbt",))
)


def check(options: Options) -> None:
    """Reject options that do not go together.

    Raises:
      UsageError: an option that has no effect with the schedule; it is named.
    """
    typed, default = (
        {**vars(each), **vars(each.population), **vars(each.judging), **vars(each.limits)}
        for each in (options, Options())
    )
    schedule = _OWN if ":" in options.schedule else options.schedule
    for name, schedules in _ONLY_FOR.items():
        if typed[name] != default[name] and schedule not in schedules:
            raise UsageError(
                f"--{name.replace('_', '-')} has no effect with --schedule {options.schedule}; it is an option of "
                f"--schedule {', '.join(schedules)}"
            )
    if schedule == "pbt" and any(text.startswith("algorithm=") for text in options.space):
        raise UsageError("--schedule pbt trains one algorithm: the members of a population copy each other")
    if options.batch_size != 16 and options.method not in ("tpe", "gp"):
        raise UsageError(f"--batch-size has no effect with --method {options.method}; it is an option of tpe and gp")
    fresh = "--confirm" if options.confirm else "--num-seeds auto" if options.num_seeds == "auto" else None
    if fresh and options.method in ("tpe", "gp"):
        raise UsageError(
            f"{fresh} has no effect with --method {options.method}, which trains its trials in batches: leave it out"
        )
    if options.eval_every and options.judging.curve != Judging().curve:
        raise UsageError(
            f"--eval-every makes learning curves of evaluations: leave out --curve {options.judging.curve}"
        )
    _check_limits(options.limits)
    if options.ray_gpus is not None and not options.ray:
        raise UsageError("--ray-gpus has no effect without --ray")
    for name in ("replay", *ADDED):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} needs the search: --resume RUN")
    if options.distributed and options.ray:
        raise UsageError("--ray and --distributed are mutually exclusive")
    if options.plan and (options.distributed or options.ray or options.output.name):
        raise UsageError("--plan runs nothing and saves nothing: leave out --ray, --distributed and --name")


def _check_limits(limits: Limits) -> None:
    if limits.max_cost is not None and not limits.price_per_hour:
        raise UsageError("--max-cost needs --price-per-hour")


def restored(options: Options, saved: Mapping[str, Any]) -> Options:
    """The options that a search was started with, from its `config.json`.

    Raises:
      UsageError: other options are given beside the name of the search, or a limit of cost without a price.
    """
    free: dict[str, Any] = {"output": Output(), "distributed": None, "resume": None, "limits": Limits()}
    free |= dict.fromkeys(("replay", *ADDED))
    if dataclasses.replace(options, **free) != Options():
        raise UsageError(
            "--resume keeps the settings of the search: give no options but --runs-dir, --distributed, --replay, "
            "--add-trials, --add-seeds, --add-steps and limits such as --until"
        )
    fields: dict[str, Any] = dict(saved)
    setup, population = Setup(**fields.pop("setup")), Population(**fields.pop("population", {}))
    judging, limits = Judging(**fields.pop("judging", {})), Limits(**fields.pop("limits", {}))
    asked = {name: value for name, value in vars(options.limits).items() if value is not None}
    known = {field.name for field in dataclasses.fields(Options)} - set(free)
    rest: dict[str, Any] = {name: value for name, value in fields.items() if name in known}
    if isinstance(rest.get("memory_limit"), str):
        rest["memory_limit"] = parse_bytes(rest["memory_limit"])
    found = Options(
        setup=setup, output=options.output, population=population, distributed=options.distributed,
        resume=options.resume, replay=options.replay, judging=judging, add_steps=saved.get("add_steps"),
        limits=dataclasses.replace(limits, **asked), **rest,
    )  # fmt: skip
    _check_limits(found.limits)
    return _grown(found, *(getattr(options, name) or 0 for name in ADDED))


def _grown(options: Options, trials: int, seeds: int, steps: int) -> Options:
    """A search with further trials, seeds and steps; `add_steps` is then the sum of all that were added.

    Raises:
      UsageError: a search of this kind cannot grow.
    """
    if trials + seeds + steps and (options.schedule in ("pbt", "asha") or options.replay is not None):
        why = "--replay" if options.replay is not None else f"--schedule {options.schedule}"
        raise UsageError(f"--add-trials, --add-seeds and --add-steps cannot be combined with {why}")
    if steps and options.method in ("tpe", "gp"):
        raise UsageError(
            f"--add-steps: --method {options.method} chose its trials by shorter runs; start another search"
        )
    if trials and options.method == "grid":
        raise UsageError("--add-trials: a grid has no further points; search another --space")
    if seeds and (options.method in ("tpe", "gp") or options.num_seeds == "auto"):
        why = "--num-seeds auto" if options.num_seeds == "auto" else f"--method {options.method}"
        raise UsageError(f"--add-seeds: with {why} the seeds decide what is trained; start another search")
    num_seeds = options.seeds + seeds if seeds else options.num_seeds
    add_steps = (options.add_steps or 0) + steps or None
    return dataclasses.replace(
        options, num_trials=options.num_trials + trials, num_seeds=num_seeds, add_steps=add_steps
    )
