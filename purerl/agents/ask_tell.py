"""Strategies of other libraries that ask and tell, such as those of evosax, as agents.

Train with `rollout=purerl.loops.rollout_episodes`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from purerl.agents.common import counts, network_checks, plug_ins, trajectories
from purerl.once import build_once
from purerl.types import Agent, Hparams, Key, Metrics, Network, Params, PyTree, Requirements, Transition


class Strategy(Protocol):
    """A search distribution over trees of parameters, as evosax's distribution-based algorithms are."""

    population_size: int
    default_params: Any

    def init(self, key: Key, mean: Params, params: Any, /) -> Any:
        """The state of the search around `mean`."""

    def ask(self, key: Key, state: Any, params: Any, /) -> tuple[Params, Any]:
        """Candidates, leaves [N, ...], and the next state."""

    def tell(self, key: Key, population: Params, fitness: jax.Array, state: Any, params: Any, /) -> tuple[Any, Any]:
        """The state after a generation with this fitness [N], to be minimised, and metrics of its own."""

    def get_mean(self, state: Any, /) -> Params:
        """The centre of the search."""


class AskTellHparams(NamedTuple):
    """No hyperparameters but those of the strategy, which a NamedTuple with fields of `default_params` replaces."""


class AskTellState(NamedTuple):
    """The state of a search.

    Attributes:
      params: the centre of the search, which plays greedily.
      population: the candidates that play next, leaves [N, ...].
      search: the strategy's own state.
      hparams: hyperparameters.
      num_updates: generations so far.
    """

    params: Params
    population: Params
    search: Any
    hparams: Hparams
    num_updates: jax.Array


class _Settings(NamedTuple):
    """The arguments of `from_evosax`."""

    network: Network
    strategy: Any


@build_once
def from_evosax(network: Network, strategy: Strategy) -> Agent:
    """A distribution-based strategy of evosax over the parameters of a policy: each environment plays one candidate.

    One update is one generation: `tell` with the negative undiscounted return of every candidate's episode, which the
    strategy minimises (NaN counts as infinity), and `ask` for the next one. The policy takes its greedy action; without
    a key the centre of the search plays.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> (distribution, value)`; the value is ignored, but its
        parameters are part of the search.
      strategy: such as `evosax.algorithms.CMA_ES(population_size=32, solution=network.init(key, obs))`. Anything with
        the functions of `Strategy` will do; evosax is not imported.

    Returns:
      An agent with `AskTellHparams`, or a NamedTuple with fields of `strategy.default_params`.

    Raises:
      TypeError: a network with memory.
      ValueError: in `init`, a hyperparameter that the strategy does not have; in `update`, another number of
        environments than candidates, or a trajectory without a mask, whose episodes may be cut.

    Source: Lange 2022, "evosax: JAX-based evolution strategies", arXiv:2212.04180.
    """
    network_checks.refuse_memory(network, "from_evosax", "carries a candidate from step to step")
    settings = _Settings(network, strategy)
    return Agent(
        functools.partial(_init, settings),
        functools.partial(_act, network),
        functools.partial(_update, settings),
        _memory,
        Requirements(data="episodes"),
    )


def _init(settings: _Settings, key: Key, hparams: Hparams, example: PyTree, num_envs: int = 1) -> AskTellState:
    params_key, init_key, ask_key = jax.random.split(key, 3)
    strategy = settings.strategy
    params = plug_ins.init(settings.network, params_key, example)
    search = _fixed_types(strategy.init(init_key, params, _params(strategy, hparams)))
    population, search = strategy.ask(ask_key, search, _params(strategy, hparams))
    return AskTellState(params, population, _fixed_types(search), hparams, jnp.int32(0))


def _params(strategy: Strategy, hparams: Hparams) -> Any:
    """The strategy's parameters with the hyperparameters put in."""
    for name in hparams._fields:
        if not hasattr(strategy.default_params, name):
            raise ValueError(f"{type(strategy).__name__} has no hyperparameter {name!r}")
    return strategy.default_params.replace(**hparams._asdict())


def _fixed_types(search: Any) -> Any:
    """The state with strongly typed arrays for Python numbers, so that updates keep its types."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), search)


@jax.custom_batching.custom_vmap
def _candidate(key: Key, population: Params) -> Params:
    """The candidate of one environment: the first. Over N environments that are vmapped the i-th plays candidate i."""
    return jax.tree.map(lambda leaf: leaf[0], population)


@_candidate.def_vmap
def _candidates(axis_size: int, batched: list[Any], key: Key, population: Params) -> tuple[Params, Any]:
    rows = jnp.arange(axis_size)

    def leaf(own: bool, value: jax.Array) -> jax.Array:
        places = rows % value.shape[1 if own else 0]
        return value[rows, places] if own else value[places]

    return jax.tree.map(leaf, batched[1], population), jax.tree.map(lambda _: True, population)


def _memory(key: Key | None, state: AskTellState) -> Params:
    """The parameters that play one episode: a candidate, and the centre without a key."""
    return state.params if key is None else _candidate(key, state.population)


def _act(
    network: Network, key: Key | None, state: AskTellState, obs: PyTree, memory: Params
) -> tuple[PyTree, tuple[()], Params]:
    distribution = plug_ins.policy_of(network.apply(memory, obs))
    return distribution.mode(), (), memory


def _update(settings: _Settings, key: Key, state: AskTellState, data: Transition) -> tuple[AskTellState, Metrics]:
    """One generation from whole episodes [T, N]."""
    trajectories.require_episodes(data, "from_evosax")
    trajectories.refuse_weight(data, "from_evosax")
    strategy, fitness = settings.strategy, trajectories.episode_rewards(data)  # [T, N] -> [N]
    if len(fitness) != strategy.population_size:
        raise ValueError(
            f"num_envs = {len(fitness)} must be the strategy's population_size, {strategy.population_size}"
        )
    tell_key, ask_key = jax.random.split(key)
    params, cost = _params(strategy, state.hparams), jnp.where(jnp.isnan(fitness), jnp.inf, -fitness)
    search, _ = strategy.tell(tell_key, data.memory, cost, state.search, params)
    population, search = strategy.ask(ask_key, search, params)
    search = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), search, state.search)
    metrics = {"fitness_mean": fitness.mean(), "fitness_std": fitness.std(), "fitness_max": fitness.max()}
    centre = strategy.get_mean(search)
    return AskTellState(centre, population, search, state.hparams, counts.increment(state.num_updates)), metrics
