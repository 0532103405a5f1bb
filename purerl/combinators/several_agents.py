"""Several agents in one environment: one policy that all share, or a policy for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.combinators import _inner
from purerl.hparams import check_positive, get_hparams, set_hparams
from purerl.once import build_once
from purerl.types import Agent, Hparams, Key, MemoryFn, Metrics, PyTree, State, Transition


@build_once
def with_shared_policy(agent: Agent, num_agents: int, *, team_reward: bool = False) -> Agent:
    """Let one policy play every agent of an environment of several, and learn from all of them (parameter sharing).

    With PPO this is independent PPO, IPPO; in `envs.central_critic(env)` it is MAPPO. The A agents of N environments
    count as N · A environments of one agent, which sees its own part of `obs["agents"]` (with its part of an
    `action_mask`, as `{"obs": ..., "action_mask": ...}`). It is paid `obs["rewards"]` of the successor; once it is no
    longer `obs["alive"]`, its steps are masked, or, for agents with replay, worth nothing. Agents that play candidates,
    such as `evolution`, play N · A of them; antithetic pairs are in different environments if N is at least 2.

    Args:
      agent: any agent of one actor, built for the spaces of `envs.one_agent(env)`. Replay, normalisation of
        observations and scaling of rewards go around it, inside this combinator.
      num_agents: A.
      team_reward: pay every agent the reward of the environment, the mean over agents, instead of its own.

    Returns:
      An agent for environments such as those of `envs.from_jaxmarl`, whose state is that of `agent`.

    Raises:
      TypeError: `agent` is not a `purerl.Agent`.
      ValueError: `num_agents` is not positive; in `init`, observations of another number of agents.

    Source: de Witt et al. 2020, arXiv:2011.09533.
    """
    _inner.check_agent(agent, "with_shared_policy")
    check_positive(num_agents=num_agents)

    def init(key: Key, hparams: Hparams, example: PyTree, num_envs: int = 1) -> State:
        _check(example, num_agents)
        return agent.init(key, hparams, _first(_seen(example)), num_envs * num_agents)

    def act(key: Key | None, state: State, obs: PyTree, *memory: Any) -> Any:
        return _act(agent, None, num_agents, key, state, obs, *memory)

    def update(key: Key, state: State, data: Transition) -> tuple[State, Metrics]:
        each = _of_agents(agent, data, num_agents, team_reward)
        merged = jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), each._replace(memory=()))
        memory = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), each.memory)  # [N, A, ...] -> [N A, ...]
        return agent.update(key, state, merged._replace(memory=memory))

    return agent._replace(
        init=init,
        act=act,
        update=update,
        memory=_shared_memory(agent, num_agents),
        requires=agent.requires._replace(joint=True),
    )


class SeparateState(NamedTuple):
    """The states of all agents, leaves [A, ...]."""

    agent: State


@build_once
def with_separate_policies(agent: Agent, num_agents: int, *, team_reward: bool = False) -> Agent:
    """Give each of the A agents of an environment a policy of its own, all of one kind, which learn side by side.

    Arguments, errors, observations and rewards are those of `with_shared_policy`; metrics are means over the agents.
    """
    _inner.check_agent(agent, "with_separate_policies")
    check_positive(num_agents=num_agents)

    def each_has(state: SeparateState) -> State:
        """The states with hyperparameters [A], also if scalars took their place."""
        hparams = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_agents, *jnp.shape(x)[1:])), get_hparams(state.agent))
        return set_hparams(state.agent, hparams)

    def init(key: Key, hparams: Hparams, example: PyTree, num_envs: int = 1) -> SeparateState:
        _check(example, num_agents)
        keys = jax.random.split(key, num_agents)
        return SeparateState(jax.vmap(lambda key, obs: agent.init(key, hparams, obs, num_envs))(keys, _seen(example)))

    def act(key: Key | None, state: SeparateState, obs: PyTree, *memory: Any) -> Any:
        return _act(agent, 0, num_agents, key, each_has(state), obs, *memory)

    def update(key: Key, state: SeparateState, data: Transition) -> tuple[SeparateState, Metrics]:
        each = _of_agents(agent, data, num_agents, team_reward)
        axes = jax.tree.map(lambda x: 2, each._replace(memory=()))._replace(
            memory=jax.tree.map(lambda x: 1, each.memory)
        )
        keys = jax.random.split(key, num_agents)
        new, metrics = jax.vmap(agent.update, (0, 0, axes))(keys, each_has(state), each)
        return SeparateState(new), {name: jnp.mean(value, axis=0) for name, value in metrics.items()}

    cut, begin = agent.cut, _separate_memory(agent, num_agents)
    return agent._replace(
        init=init,
        act=act,
        update=update,
        memory=None if begin is None else lambda key, state: begin(key, each_has(state)),
        requires=agent.requires._replace(joint=True),
        cut=None if cut is None else lambda state: SeparateState(jax.vmap(cut)(each_has(state))),
    )


def _act(
    agent: Agent, state_axis: int | None, num_agents: int, key: Key | None, state: State, obs: PyTree, *memory: Any
) -> Any:
    """What every agent does: `act` of the agent over the axis of agents."""
    if key is None:
        return jax.vmap(lambda *rest: agent.act(None, *rest), (state_axis, *[0] * (1 + len(memory))))(
            state, _seen(obs), *memory
        )
    keys = jax.random.split(key, num_agents)
    return jax.vmap(agent.act, (0, state_axis, *[0] * (1 + len(memory))))(keys, state, _seen(obs), *memory)


def _shared_memory(agent: Agent, num_agents: int) -> MemoryFn | None:
    """The memories of all agents of one environment, leaves [A, ...].

    An agent may deal candidates out over the environments for which its `memory` is vmapped, such as the two halves of
    antithetic pairs. Here these are the N · A rows of `update`, environment by environment.
    """
    begin = agent.memory
    if begin is None:
        return None

    def rows(keys: Key, state: State) -> PyTree:
        num_envs = keys.shape[0]
        memory = jax.vmap(begin, (0, None))(keys.reshape(-1), state)  # [N, A] -> [N A, ...]
        return jax.tree.map(lambda x: x.reshape(num_envs, num_agents, *x.shape[1:]), memory)

    return _over_environments(begin, rows, num_agents, None)


def _separate_memory(agent: Agent, num_agents: int) -> MemoryFn | None:
    """As `_shared_memory` for states [A, ...]: each agent deals its candidates out over the N environments."""
    begin = agent.memory
    if begin is None:
        return None

    def rows(keys: Key, states: State) -> PyTree:
        return jax.vmap(jax.vmap(begin, (0, None)), (1, 0), 1)(keys, states)  # [N, A] -> [N, A, ...]

    return _over_environments(begin, rows, num_agents, 0)


def _over_environments(
    begin: MemoryFn, rows: Callable[[Key, State], PyTree], num_agents: int, state_axis: int | None
) -> MemoryFn:
    """`memory` of one environment that under `jax.vmap` over N environments is `rows(keys [N, A], state)`."""

    @jax.custom_batching.custom_vmap
    def drawn(keys: Key, state: State) -> PyTree:
        return jax.vmap(begin, (0, state_axis))(keys, state)

    @drawn.def_vmap
    def drawn_together(num_envs: int, batched: list[Any], keys: Key, state: State) -> tuple[PyTree, Any]:
        keys = keys if batched[0] else jnp.broadcast_to(keys, (num_envs, *keys.shape))
        if any(jax.tree.leaves(batched[1])):  # a state per environment
            axes = jax.tree.map(lambda own: 0 if own else None, batched[1])
            memory = jax.vmap(jax.vmap(begin, (0, state_axis)), (0, axes))(keys, state)
        else:
            memory = rows(keys, state)
        return memory, jax.tree.map(lambda _: True, memory)

    def memory(key: Key | None, state: State) -> PyTree:
        if key is None:
            return jax.vmap(lambda _, state: begin(None, state), (0, state_axis))(jnp.arange(num_agents), state)
        return drawn(jax.random.split(key, num_agents), state)

    return memory


def _check(example: PyTree, num_agents: int) -> None:
    if not isinstance(example, dict) or "agents" not in example:
        raise ValueError('observations must have the entry "agents" [A, ...], as those of envs.from_jaxmarl')
    found = jax.tree.leaves(example["agents"])[0].shape[0]
    if found != num_agents:
        raise ValueError(f"num_agents is {num_agents}, but the environment has {found} agents")


def _first(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[0], tree)


def _seen(obs: PyTree) -> PyTree:
    """What each agent sees, leaves [..., A, *shape]."""
    own = obs["agents"]
    if "action_mask" not in obs:
        return own
    return (own if isinstance(own, dict) else {"obs": own}) | {"action_mask": obs["action_mask"]}


def _of_agents(agent: Agent, data: Transition, num_agents: int, team_reward: bool) -> Transition:
    """The trajectory of every agent, leaves [T, N, A, ...].

    An agent's episode terminates where it dies or the environment terminates; it is masked where it was dead before.
    Replay takes no masks: there a dead agent's steps are episodes of one step without reward, which is what they are
    worth.
    """
    before, after = data.obs["alive"], data.next_obs["alive"]  # [T, N, A]
    spread = lambda x: jnp.repeat(x[..., None], num_agents, axis=-1)  # noqa: E731  [T, N] -> [T, N, A]
    terminated = spread(data.terminated) | (before & ~after)
    reward = spread(data.reward) if team_reward else data.next_obs["rewards"]
    mask: PyTree = () if isinstance(data.mask, tuple) else spread(data.mask)
    if agent.requires.keeps_data:
        terminated, reward = terminated | ~before, jnp.where(before, reward, 0.0)
    else:
        mask = before.astype(jnp.float32) if isinstance(mask, tuple) else mask * before
    return data._replace(
        obs=_seen(data.obs),
        next_obs=_seen(data.next_obs),
        reward=reward,
        terminated=terminated,
        truncated=spread(data.truncated) & ~terminated,
        mask=mask,
        weight=() if isinstance(data.weight, tuple) else spread(data.weight),
    )
