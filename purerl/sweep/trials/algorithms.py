"""Algorithms that one search compares: the static choice `algorithm`, each with its own agent, space and sizes.

The hyperparameters of all of them are one NamedTuple, the table of the search, with fields such as `ppo_learning_rate`.
Those of an algorithm are searched in its own trials only, as `spaces.when` does it, and its agent reads its own alone.
So everything else in a search treats the algorithm as any other static choice: a group of trials with its own program.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, get_type_hints

import numpy as np

from purerl.hparams import check_positive
from purerl.sweep.trials.spaces import Choice, SearchSpace, Space, When, check_space, choice, when
from purerl.types import Agent, Env, Hparams

ALGORITHM = "algorithm"


class Built(NamedTuple):
    """What a function of static choices returns: an agent, and what it is trained with in place of the search's own.

    Attributes:
      agent: the agent.
      num_envs, rollout_length, rollout, env: None takes that of the search.
    """

    agent: Agent
    num_envs: int | None = None
    rollout_length: int | None = None
    rollout: Callable[..., Any] | None = None
    env: Env | None = None


AgentSource: TypeAlias = Agent | Callable[..., Agent | Built]
"""An agent, or a function from static choices to one."""


class Algorithm(NamedTuple):
    """One of the algorithms that a search compares; see `algorithms`.

    Attributes:
      agent: the agent, or a function from further static choices to it.
      hparams: its hyperparameters: the values of those that its space leaves out.
      space: from names of its hyperparameters to spaces or constants.
      num_envs, rollout_length, rollout, env: what it is trained with; None takes that of the search.
    """

    agent: Agent | Callable[..., Agent]
    hparams: Hparams
    space: SearchSpace
    num_envs: int | None = None
    rollout_length: int | None = None
    rollout: Callable[..., Any] | None = None
    env: Env | None = None


class Algorithms(NamedTuple):
    """The arguments of a search over algorithms: `search(key, every.agent, env, every.hparams, every.space, ...)`.

    Attributes:
      agent: a function from static choices to the agent.
      hparams: those of all algorithms, `ppo_learning_rate` and so on.
      space: the spaces of all algorithms, under the same names.
      static: the algorithm as a static choice; the trials take the algorithms in turn.
      classes: of the hyperparameters of each algorithm.
    """

    agent: Callable[..., Built]
    hparams: Hparams
    space: dict[str, Space | When]
    static: dict[str, Choice]
    classes: dict[str, type]

    def own(self, hparams: Hparams, name: str) -> Hparams:
        """The hyperparameters of one algorithm, of its own class, among those of all: of `result.best.hparams`, say."""
        return self.classes[name](**own_fields(hparams._asdict(), name, tuple(self.classes)))


def algorithms(every: Mapping[str, Algorithm]) -> Algorithms:
    """Algorithms for one search, which ranks the trials of all of them together.

    Every trial has one algorithm, in turn, so each gets the same number of them. Each trains with its own `num_envs`
    and `rollout_length`, for the number of its updates that comes nearest to the steps of the search; so do rungs.

    Args:
      every: the algorithms by name.

    Raises:
      ValueError, TypeError: there are none, a space does not fit, a size is not positive, or two algorithms have
        hyperparameters of the same name when the name of the algorithm is put before it.

    Examples:
      >>> from purerl.sweep import uniform
      >>> class Hparams(NamedTuple):
      ...     rate: float = 0.1
      >>> agent = Agent(init=None, act=None, update=None)
      >>> a, b = Algorithm(agent, Hparams(), {"rate": uniform(0, 1)}), Algorithm(agent, Hparams(), {})
      >>> found = algorithms({"a": a, "b": b})
      >>> found.hparams._asdict(), list(found.space), found.own(found.hparams, "a")
      ({'a_rate': 0.1, 'b_rate': 0.1}, ['a_rate'], Hparams(rate=0.1))
    """
    if not every:
        raise ValueError("there are no algorithms to compare")
    values: dict[str, Any] = {}
    space: dict[str, Space | When] = {}
    for name, each in every.items():
        sizes = {size: getattr(each, size) for size in ("num_envs", "rollout_length")}
        check_positive(**{size: value for size, value in sizes.items() if value is not None})
        try:
            own, searched = _checked(name, each)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{name}: {error}") from error
        if taken := set(own) & set(values):
            raise ValueError(f"two algorithms have a hyperparameter {min(taken)}: give {name} another name")
        values |= own
        space |= searched
    static = {ALGORITHM: choice(every, in_turn=True)}
    classes: dict[str, type] = {name: type(each.hparams) for name, each in every.items()}
    return Algorithms(_builder(every), _table_class(every)(**values), space, static, classes)


def built(agent: AgentSource, static: Mapping[str, Any]) -> Built:
    """The agent of a group of static choices, which hold neither `num_envs` nor `rollout_length`.

    Raises:
      TypeError: `agent` is an agent, although there are choices, or a function that returns none.
    """
    if isinstance(agent, Agent):
        if static:
            raise TypeError(f"static choices {', '.join(static)} need `agent` to be a function from them to an agent")
        return Built(agent)
    made = agent(**static)
    made = Built(made) if isinstance(made, Agent) else made
    if not isinstance(made, Built):
        raise TypeError(f"agent({', '.join(static)}) returned {type(made).__name__}, not an Agent")
    return made


def owner(name: str, names: Sequence[str]) -> str | None:
    """The algorithm that a hyperparameter of the table belongs to; None: to all.

    Examples:
      >>> owner("td3_bc_alpha", ("td3", "td3_bc")), owner("env.length", ("td3",))
      ('td3_bc', None)
    """
    return max((each for each in names if name.startswith(f"{each}_")), key=len, default=None)


def own_fields(table: Mapping[str, Any], algorithm: str, names: Sequence[str]) -> dict[str, Any]:
    """The entries of one algorithm of several, under their own names.

    Examples:
      >>> own_fields({"td3_tau": 0.1, "td3_bc_tau": 0.2}, "td3", ("td3", "td3_bc"))
      {'tau': 0.1}
    """
    mine = {name: value for name, value in table.items() if owner(name, names) == algorithm}
    return {name.removeprefix(f"{algorithm}_"): value for name, value in mine.items()}


def own_name(name: str, algorithm: str | None) -> str | None:
    """The name of a hyperparameter of the table in its own algorithm; None: it belongs to another one.

    Examples:
      >>> own_name("ppo_discount", "ppo"), own_name("ppo_discount", "dqn"), own_name("discount", None)
      ('discount', None, 'discount')
    """
    if algorithm is None or "." in name or name in ("num_envs", "rollout_length"):
        return name
    start = f"{algorithm}_"
    return name.removeprefix(start) if name.startswith(start) else None


def active(columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """[P] bool, the trials in which a searched name means something: those of the algorithm that it belongs to."""
    mine = columns.get(ALGORITHM)
    of = None if mine is None else owner(name, tuple(dict.fromkeys(mine.tolist())))
    count = len(columns[name])
    return np.ones(count, bool) if mine is None or of is None else np.array([each == of for each in mine.tolist()])


def _checked(name: str, each: Algorithm) -> tuple[dict[str, Any], dict[str, Space | When]]:
    """The hyperparameters and the conditional spaces of an algorithm, by the names that they have in the table."""
    inner = {key: space.space if isinstance(space, When) else space for key, space in each.space.items()}
    hparams, searched = check_space(each.hparams, inner)
    found: dict[str, Space | When] = {}
    for key, plain in searched.items():
        space = each.space[key]
        if isinstance(space, When):
            parent = f"{name}_{space.parent}" if space.parent in hparams._fields else space.parent
            found[f"{name}_{key}"] = When(parent, space.values, plain, also=(ALGORITHM, (name,)))
        else:
            found[f"{name}_{key}"] = when(ALGORITHM, [name], plain)
    return {f"{name}_{key}": value for key, value in hparams._asdict().items()}, found


def _builder(every: Mapping[str, Algorithm]) -> Callable[..., Built]:
    """From static choices to the agent; the same choices give the same agent, so that its programs compile once."""

    @functools.cache
    def build(algorithm: str, **static: Any) -> Built:
        each = every[algorithm]
        agent = built(each.agent, static).agent

        def init(key: Any, hparams: Hparams, example: Any, num_envs: int = 1) -> Any:
            own = type(each.hparams)(**own_fields(hparams._asdict(), algorithm, tuple(every)))
            return agent.init(key, own, example, num_envs)

        return Built(agent._replace(init=init), each.num_envs, each.rollout_length, each.rollout, each.env)

    return build


def _table_class(every: Mapping[str, Algorithm]) -> Any:
    """The class of the table, with the defaults and the ranges of the classes of all algorithms."""
    fields: list[str] = []
    defaults: dict[str, Any] = {}
    hints: dict[str, Any] = {}
    for name, each in every.items():
        kind = type(each.hparams)
        fields += [f"{name}_{field}" for field in kind._fields]
        given = each.hparams._asdict() | getattr(kind, "_field_defaults", {})
        defaults |= {f"{name}_{field}": given[field] for field in kind._fields}
        hints |= {f"{name}_{field}": hint for field, hint in get_type_hints(kind, include_extras=True).items()}
    made: Any = collections.namedtuple("Hparams", fields, defaults=[defaults[field] for field in fields])  # type: ignore
    made.__annotations__ = hints
    return made
