"""The options of `purerl sweep`: which of them go together, and those of a search that is gone on with."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, Optional

import tyro

from purerl.commands.options import Count, OptionalCount, Output, Seed, Setup, UsageError, hint


@dataclasses.dataclass(frozen=True)
class Population:
    """Of --schedule pbt alone: the worst members of a population take over from the best, round by round."""

    rounds: Count = 20
    """Into how many rounds the steps are cut; after each but the last the worst members are replaced."""
    exploit_fraction: float = 0.2
    """Share of the members that is replaced after a round, by as many of the best."""
    resample_probability: float = 0.25
    """How likely a hyperparameter of a copy is drawn anew; otherwise it is moved by one of the factors."""
    perturb_factors: Annotated[tuple[float, ...], tyro.conf.arg(metavar="FACTOR ...")] = (0.8, 1.2)
    """The factors."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Search hyperparameters: all trials and seeds are trained side by side, evaluated on the same episodes and ranked.

    Without options: 64 random trials of PPO x 2 seeds on CartPole-v1. The table, the pictures and the best policy go to
    runs/<name>/; `purerl evaluate runs/<name>` plays the policy, `purerl report runs/<name>` writes a page about it.
    Everything is written down as it finishes: after Ctrl-C, a crash or a power cut, `purerl sweep --resume --name
    <name>` goes on and ends in the same table.
    """

    setup: Setup = dataclasses.field(default_factory=Setup)
    output: Output = dataclasses.field(default_factory=Output)
    num_trials: Count = 64
    """Trials that are drawn; a grid takes all its points. With pbt: members of the population."""
    num_seeds: Annotated[OptionalCount, hint("2")] = None
    """Agents of each trial, alike but for their random numbers."""
    num_steps: Annotated[OptionalCount, hint("100_000")] = None
    """Environment steps of each agent that is trained to the end, such as 100_000, 100k or 1e5."""
    space: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME=SPACE ...", help_behavior_hint="(default: the table's)")
    ] = ()
    """What is searched: uniform:LOW,HIGH, log_uniform:LOW,HIGH, integers:LOW,HIGH, choice:A,B,... or a number, such as
    learning_rate=log_uniform:1e-4,1e-2 clip_epsilon=choice:0.1,0.2. A grid needs points: uniform:0.9,1,points=5.
    Beside hyperparameters: parameters of the environment (env.length=uniform:0.3,0.8), and choices that compile once
    each: num_envs=choice:4,16 rollout_length=choice:32,128 agent.num_epochs=choice:4,10
    network.hidden=choice:64,64|256,256
    """
    method: Literal["random", "sobol", "grid"] = "random"
    """Draw trials at random, by a Sobol sequence, or take every combination of the grid."""
    schedule: Literal["full", "halving", "hyperband", "pbt"] = "full"
    """Train every trial to the end; stop the worse ones early by successive halving or Hyperband; or train one
    population whose hyperparameters change while it learns (pbt: population-based training)."""
    eta: Count = 4
    """Halving: how many times fewer trials go on, and how many times longer they train, from rung to rung."""
    rungs: Count = 3
    """Rungs of halving, or brackets of Hyperband."""
    stop_clearly_worse: bool = False
    """Stop also those survivors of a rung whose interval lies below that of the median one; wants 3 seeds or more."""
    population: Population = dataclasses.field(default_factory=Population)
    confirm: int = 0
    """How many of the best trials are trained again on fresh seeds: the best of many is optimistic."""
    confirm_seeds: Count = 8
    """How many fresh seeds."""
    seed: Seed = 0
    """Seed of all random numbers."""
    block_size: Annotated[OptionalCount, hint("16 on a CPU core, else all that fit")] = None
    """How many agents one program trains side by side, at most."""
    memory_limit: Annotated[Optional[str], tyro.conf.arg(metavar="SIZE"), hint("most of what is free")] = None  # noqa: UP045
    """Memory that a block of agents may take on a device, such as 800MB or 4GiB."""
    eval_episodes: Count = 16
    """Greedy episodes that each agent plays after each rung or round."""
    top: Count = 10
    """Rows of the table that is shown; all are written to trials.csv."""
    ray: Annotated[Optional[str], tyro.conf.arg(metavar="ADDRESS|local"), hint("this process")] = None  # noqa: UP045
    """Let Ray do the blocks, on a cluster (its address, or auto) or on this machine (local)."""
    distributed: Annotated[Optional[str], tyro.conf.arg(metavar="auto|HOST:PORT,N,I"), hint("one process")] = None  # noqa: UP045
    """Spread the agents over N processes, which all run this command: I, from 0, is which of them this is, and process
    0 waits at HOST:PORT. Slurm, Open MPI, Kubernetes and TPU pods tell it themselves: auto. It needs a --name."""
    resume: bool = False
    """Go on with the search --name, whose settings stay as they are."""

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
    """Refuse what does not go together.

    Raises:
      UsageError: an option that the schedule has no use for, by name.
    """
    typed, default = ({**vars(each), **vars(each.population)} for each in (options, Options()))
    for name, schedules in _ONLY_FOR.items():
        if typed[name] != default[name] and options.schedule not in schedules:
            raise UsageError(
                f"--{name.replace('_', '-')} is of no use to --schedule {options.schedule}: it is for "
                f"{', '.join(schedules)}"
            )
    if options.distributed and options.ray:
        raise UsageError("--ray and --distributed are two ways to several machines: take one")


def resumed(options: Options) -> Options:
    """The options that a search was begun with.

    Raises:
      UsageError: there is no such search, or more is given than which it is.
    """
    from purerl.commands import runs
    from purerl.sweep.results.storage import with_tuples

    if options.output.name is None:
        raise UsageError("--resume needs to know which search to go on with: give its --name")
    if dataclasses.replace(options, output=Output(), distributed=None, resume=False) != Options():
        raise UsageError("--resume goes on with the settings of the search: leave out everything but its --name")
    saved = runs.read_config(runs.directory_of(options.output))
    if saved.get("command") != "sweep":
        raise UsageError(f"{runs.directory_of(options.output)} was made by purerl {saved.get('command')}, not by sweep")
    fields: dict[str, Any] = with_tuples(saved["options"])
    setup, population = Setup(**fields.pop("setup")), Population(**fields.pop("population", {}))
    known = {field.name for field in dataclasses.fields(Options)} - {"output", "distributed"}
    rest: dict[str, Any] = {name: value for name, value in fields.items() if name in known}
    return Options(setup=setup, output=options.output, population=population, distributed=options.distributed, **rest)
