"""Learning from past steps: a ring of them in front of an agent."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp

from purerl import branches, numerics, packing, replay, schedules
from purerl.agents.common import trajectories
from purerl.combinators import _inner, _windows
from purerl.distributed import platform
from purerl.hparams import check_positive, get_hparams, set_hparams
from purerl.once import build_once
from purerl.replay import priority
from purerl.replay import ring as rings
from purerl.types import Agent, Experience, Hparams, Key, Metrics, PyTree, Requirements, State, Transition


class ReplayState(NamedTuple):
    """The wrapped agent's state, and the steps that it learns from.

    Attributes:
      agent: the wrapped agent's state.
      ring: `replay.Ring`, or `replay.priority.PriorityRing`.
    """

    agent: State
    ring: Experience


class _Settings(NamedTuple):
    """The arguments of `with_replay`."""

    agent: Agent
    capacity: int
    batch_size: int
    num_updates: int
    min_size: int
    prioritized: bool
    layout: _windows.Layout


@build_once
def with_replay(
    agent: Agent,
    *,
    capacity: int,
    batch_size: int,
    length: int = 1,
    num_updates: int = 1,
    min_size: int | None = None,
    prioritized: bool = False,
    burn_in: int = 0,
    store_next_obs: bool = True,
    num_frames: int = 1,
) -> Agent:
    """Show the agent windows of past steps in place of its rollout.

    An update writes the rollout into the ring and then, `num_updates` times, draws `batch_size` windows of `length`
    consecutive steps, a trajectory [length, batch_size], and lets the agent learn from it. Until the ring holds
    `min_size` steps the agent stays as it is and its metrics are NaN. A run that starts from a trained state marks the
    newest steps of the ring as truncated, so no window joins the episodes of two runs.

    Prioritised replay reads α and β from the hyperparameters `priority_exponent`, `importance_exponent` and
    `importance_anneal_updates` (β rises to 1 over that many updates). The agent sees the importance weights as the
    data's `weight`, and its metrics must have an entry "priority", [batch_size], which becomes the windows' priorities.

    An agent with memory, such as a recurrent actor-critic, starts each window from the memory that it had there when it
    acted, which is stored beside the step. Older parameters made that memory, so the present ones may read the
    `burn_in` steps before the window first, without a gradient.

    Args:
      agent: any agent whose `update` takes a `Transition`, such as `dqn(network)`.
      capacity: steps over all environments; rounded down to whole rows of one step per environment.
      batch_size: windows per gradient step.
      length: steps in a window; an agent takes the n-step return over it.
      num_updates: updates of the agent per rollout.
      min_size: steps before learning begins; None: `batch_size`.
      prioritized: draw windows by priority (Schaul et al. 2016) instead of uniformly.
      burn_in: steps read before each window to bring the agent's memory up to date.
      store_next_obs: False stores each observation once, which halves the memory of images: the successor of a step is
        the next observation of its environment. Where an episode was cut that is another episode's, so windows with a
        truncated step have weight 0.
      num_frames: number of observations that `envs.frame_stack` joins in the environment. Each is then stored once and
        joined again when it is drawn, so four frames take a quarter of the memory. No other wrapper that changes
        observations or repeats actions may be around `envs.frame_stack` then.

    Returns:
      An agent whose state has the fields `agent` and `ring`.

    Raises:
      TypeError: `agent` is not a `purerl.Agent`.
      ValueError: a size is not positive; `min_size` above `capacity`; at the first use, an agent that cannot learn from
        windows in random order, one that takes the data of several agents, a capacity that can never hold `min_size`
        steps or one window, or hyperparameters without those of prioritised replay; `burn_in` for an agent without
        memory; in `update`, a rollout that does not fit, masked data, or no priorities.

    Source: stored memory and burn-in: Kapturowski et al. 2019, "Recurrent experience replay in distributed
    reinforcement learning", section 3.
    """
    _inner.check_agent(agent, "with_replay")
    sizes = {"capacity": capacity, "batch_size": batch_size, "length": length, "num_updates": num_updates}
    check_positive(**sizes, num_frames=num_frames)
    if not isinstance(burn_in, int) or isinstance(burn_in, bool) or burn_in < 0:
        raise ValueError(f"burn_in must be an integer of at least 0, got {burn_in!r}")
    least = batch_size if min_size is None else min_size
    check_positive(min_size=least)
    if least > capacity:
        raise ValueError(f"min_size = {least} is more than capacity = {capacity}: learning would never begin")
    joint = _inner.why_not_joint(agent, "with_replay")
    if joint:
        return _inner.refused(joint)
    if agent.requires.data not in ("rows", "trajectory"):
        return _inner.refused(_REFUSED[agent.requires.data])
    if burn_in and not agent.requires.memory:
        raise ValueError(f"burn_in = {burn_in} brings memory up to date, but this agent learns without memory")
    layout = _windows.Layout(length, burn_in, store_next_obs, num_frames)
    settings = _Settings(agent, capacity, batch_size, num_updates, least, prioritized, layout)

    def cut(state: ReplayState) -> ReplayState:
        inner = state.agent if agent.cut is None else agent.cut(state.agent)
        return ReplayState(inner, (priority if prioritized else replay).cut(state.ring))

    return Agent(
        functools.partial(_init, settings),
        _windows.recording(agent) if agent.requires.memory else _inner.act(agent),
        functools.partial(_update, settings),
        _inner.memory(agent),
        Requirements("stream", agent.requires.raw_observations, keeps_data=True),
        cut,
        agent.check,
    )


_REFUSED = {
    "stream": "with_replay shows windows in random order, but this agent needs a trajectory that continues from update "
    "to update, as reward scaling and eligibility traces do; the right order with scaled rewards is "
    "with_reward_scaling(with_replay(agent, ...))",
    "episodes": "with_replay shows windows of steps, but this agent needs whole episodes: train it without replay",
    "whole": "with_replay stores rollouts, but this agent takes the data of fit, as with_minibatches does: replay "
    "draws batches itself, so wrap the agent in with_replay alone",
}


def _init(settings: _Settings, key: Key, hparams: Hparams, example: PyTree, num_envs: int = 1) -> ReplayState:
    """An empty ring beside the agent's state.

    Raises:
      ValueError: learning would never begin, or a hyperparameter of prioritised replay is missing.
    """
    rows = settings.capacity // num_envs
    if rows and rows * num_envs < settings.min_size:
        raise ValueError(
            f"capacity = {settings.capacity} is {rows} rows of num_envs = {num_envs}, or {rows * num_envs} steps, and "
            f"never holds min_size = {settings.min_size} steps (batch_size by default): learning would never begin"
        )
    length, needed = settings.layout.length, settings.layout.num_rows
    if rows and rows < needed:
        more = f" with what is read around it, {needed} rows" * (needed > length)
        raise ValueError(
            f"capacity = {settings.capacity} is {rows} rows of num_envs = {num_envs} and never holds a window of "
            f"length = {length}{more}: learning would never begin"
        )
    if settings.prioritized:
        for name in ("priority_exponent", "importance_exponent", "importance_anneal_updates"):
            if not hasattr(hparams, name):
                raise ValueError(
                    f"prioritized=True needs the hyperparameter {name}, not a field of {type(hparams).__name__}"
                )
    inner = settings.agent.init(key, hparams, example, num_envs)
    make = priority.init if settings.prioritized else replay.init
    return ReplayState(inner, make(_example_step(settings, inner, example), settings.capacity, num_envs))


def _update(settings: _Settings, key: Key, state: ReplayState, data: Transition) -> tuple[ReplayState, Metrics]:
    """Write the rollout, then learn `num_updates` times."""
    trajectories.refuse_mask(data, "with_replay")
    ring = _write(settings, state, _windows.stored(settings.layout, data))
    num_rows = (ring.ring if settings.prioritized else ring).num_rows
    size = num_rows * data.reward.shape[1]
    ready = (size >= settings.min_size) & (num_rows >= settings.layout.num_rows)
    keys = jax.random.split(key, settings.num_updates)
    xs = keys if settings.prioritized else _draws(settings, keys, ring)
    step = _prioritized_step if settings.prioritized else _uniform_step

    @jax.jit  # so that it is traced once for all platforms
    def learn(before: ReplayState, xs: PyTree) -> tuple[ReplayState, Metrics]:
        after, metrics = step(settings, xs, before, ready)
        chex.assert_trees_all_equal_shapes_and_dtypes(after.agent, before.agent)  # which packed arrays would not tell
        return after, {name: x for name, x in metrics.items() if name != "priority"}

    either = functools.partial(branches.dependent, ready, ReplayState(state.agent, ring), xs)
    state, metrics = either(
        cpu=functools.partial(_learn_if_ready, learn), default=functools.partial(_learn_packed, learn)
    )
    return state, metrics | {"replay/size": size}


_Learn: TypeAlias = Callable[[ReplayState, PyTree], tuple[ReplayState, Metrics]]
"""One gradient step: the state and the draw to the state and its metrics."""


def _learn_if_ready(learn: _Learn, ready: jax.Array, state: ReplayState, xs: PyTree) -> tuple[ReplayState, Metrics]:
    """All gradient steps on a CPU, made only if the ring holds enough: the state, and the means of the metrics."""
    changing, whole = _changing(state)
    shapes = jax.eval_shape(lambda state, xs: learn(state, jax.tree.map(lambda x: x[0], xs)), state, xs)[1]

    def one(changing: PyTree, xs: PyTree) -> tuple[PyTree, jax.Array]:
        after, metrics = learn(whole(changing), xs)
        return _changing(after)[0], jnp.array([metrics[name] for name in shapes], float)

    def every(changing: PyTree) -> tuple[PyTree, jax.Array]:
        changing, metrics = jax.lax.scan(one, changing, xs)
        return changing, metrics.mean(axis=0)  # [U, M] -> [M]

    def none(changing: PyTree) -> tuple[PyTree, jax.Array]:
        return changing, jnp.full(len(shapes), numerics.missing(), float)

    changing, means = jax.lax.cond(ready, every, none, changing)
    metrics = {
        name: mean.astype(jnp.result_type(shape.dtype, 0.0)) for mean, (name, shape) in zip(means, shapes.items())
    }
    return whole(changing), metrics


def _changing(state: ReplayState) -> tuple[PyTree, Callable[[PyTree], ReplayState]]:
    """The arrays that gradient steps change, and the function that completes them by the recorded steps of the ring."""
    ring = state.ring
    if isinstance(ring, priority.PriorityRing):
        return (state.agent, ring.tree, ring.largest), lambda parts: ReplayState(
            parts[0], priority.PriorityRing(ring.ring, *parts[1:])
        )
    return (state.agent,), lambda parts: ReplayState(parts[0], ring)


def _learn_packed(learn: _Learn, ready: jax.Array, state: ReplayState, xs: PyTree) -> tuple[ReplayState, Metrics]:
    """As `_learn_if_ready` for an accelerator, which carries few arrays and makes every step, wanted or not."""
    learner, unpack = _pack(state.agent)

    def one(carry: tuple[_Packed, Experience], xs: PyTree) -> tuple[tuple[_Packed, Experience], Metrics]:
        old, ring = carry
        before = ReplayState(unpack(old), ring)
        new, metrics = learn(before, xs)
        inner = jax.tree.map(lambda new, old: jnp.where(ready, new, old), new.agent, before.agent)
        metrics = {name: jnp.where(ready, x, numerics.missing()) for name, x in metrics.items()}
        return (_pack(inner)[0], new.ring), {name: x[None] for name, x in metrics.items()}

    (learner, ring), metrics = packing.scan_packed(platform.scan_unrolled, one, (learner, state.ring), xs)
    return ReplayState(unpack(learner), ring), {name: x.mean() for name, x in metrics.items()}


class _Packed(NamedTuple):
    """A learner's state as few arrays, and beside them its hyperparameters, which an update rarely changes."""

    arrays: list[jax.Array]
    hparams: Hparams


def _pack(state: State) -> tuple[_Packed, Callable[[_Packed], State]]:
    """The state packed, and the inverse: on a GPU each array that a step of the scan writes is a kernel."""
    arrays, unpack = packing.pack_one(set_hparams(state, ()))
    return _Packed(arrays, get_hparams(state)), lambda packed: set_hparams(unpack(packed.arrays), packed.hparams)


def _draws(settings: _Settings, keys: Key, ring: replay.Ring) -> tuple[Key, jax.Array]:
    """The key [U] and the indices [U, L, B] of every step, drawn at once, with the random numbers of one at a time."""
    size, length = settings.batch_size, settings.layout.num_rows

    def one(key: Key) -> tuple[Key, jax.Array]:
        draw_key, update_key = jax.random.split(key)
        return update_key, rings.draw(draw_key, ring, size, length)

    return jax.vmap(one)(keys)


def _write(settings: _Settings, state: ReplayState, data: Transition) -> Any:
    """The ring after a rollout."""
    if not settings.prioritized:
        return replay.add(state.ring, data)
    return priority.add(state.ring, data, get_hparams(state.agent).priority_exponent, settings.layout.num_rows)


def _uniform_step(
    settings: _Settings, drawn: tuple[Key, jax.Array], state: ReplayState, ready: jax.Array
) -> tuple[ReplayState, Metrics]:
    update_key, index = drawn
    window = rings.take(state.ring, index)
    shown = _windows.shown(settings.agent, state.agent, window, settings.layout)
    inner, metrics = settings.agent.update(update_key, state.agent, shown)
    return ReplayState(inner, state.ring), metrics


def _prioritized_step(
    settings: _Settings, key: Key, state: ReplayState, ready: jax.Array
) -> tuple[ReplayState, Metrics]:
    draw_key, update_key = jax.random.split(key)
    hparams = get_hparams(state.agent)
    updates = _num_updates(state.agent)
    beta = schedules.linear_schedule(updates, hparams.importance_exponent, 1.0, hparams.importance_anneal_updates)
    window, index, weight = priority.sample(draw_key, state.ring, settings.batch_size, beta, settings.layout.num_rows)
    window = window._replace(weight=jnp.broadcast_to(weight, window.reward.shape))  # [B] -> [L, B]
    shown = _windows.shown(settings.agent, state.agent, window, settings.layout)
    inner, metrics = settings.agent.update(update_key, state.agent, shown)
    if "priority" not in metrics:
        raise ValueError("prioritized=True needs an agent whose metrics have an entry 'priority', such as dqn")
    found = metrics["priority"]
    if not settings.layout.next_obs:  # the errors of windows that do not count say nothing
        found = jnp.where((shown.weight == 0).all(axis=0), 1e-6, found)
    ring = priority.update(state.ring, index, found, hparams.priority_exponent, ready)
    return ReplayState(inner, ring), metrics


def _num_updates(state: State) -> jax.Array:
    return state.num_updates if hasattr(state, "num_updates") else _num_updates(state.agent)


def _example_step(settings: _Settings, state: State, example: PyTree) -> Transition:
    """Shapes and dtypes of one step that the agent makes."""
    agent = settings.agent

    def act(key: Key) -> tuple[PyTree, PyTree]:
        act_key, memory_key = jax.random.split(key)
        memory = [] if agent.memory is None else [agent.memory(memory_key, state)]
        action, aux = agent.act(act_key, state, example, *memory)[:2]
        return action, _windows.Recorded(aux, *memory) if agent.requires.memory else aux

    action, aux = jax.eval_shape(act, jax.random.key(0))
    scalar: Any = jax.ShapeDtypeStruct((), jnp.float32)
    flag: Any = jax.ShapeDtypeStruct((), bool)
    step = Transition(example, (), scalar, flag, flag, example)
    shapes = jax.eval_shape(lambda step: _windows.stored(settings.layout, step), step)
    return shapes._replace(action=action, reward=scalar, terminated=flag, truncated=flag, aux=aux)
