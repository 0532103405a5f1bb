"""Which combinators may wrap which agents: unsound orders are refused with the right one."""

import jax
import jax.numpy as jnp
import pytest

from purerl.combinators import (
    with_adaptive_kl,
    with_minibatches,
    with_observation_normalization,
    with_precision,
    with_replay,
    with_reward_scaling,
    with_separate_policies,
    with_shared_policy,
)
from purerl.types import Agent, Requirements


def needing(data="rows", **more):
    def unused(*_):
        raise AssertionError("the composition must tell before the agent is used")

    return Agent(unused, unused, unused, requires=Requirements(data, **more))


def replayed(agent):
    return with_replay(agent, capacity=8, batch_size=2)


def batched(agent):
    return with_minibatches(agent, 2)


def shared(agent):
    return with_shared_policy(agent, 2)


ROWS, STEPS, STREAM, EPISODES = (needing(data) for data in ("rows", "trajectory", "stream", "episodes"))
REFUSED = {
    "scaling inside replay": (lambda: replayed(with_reward_scaling(ROWS)), r"with_reward_scaling\(with_replay\(agent"),
    "traces inside replay": (lambda: replayed(STREAM), "continues from update to update"),
    "replay inside replay": (lambda: replayed(replayed(ROWS)), "continues from update to update"),
    "episodes inside replay": (lambda: replayed(EPISODES), "needs whole episodes"),
    "minibatches inside replay": (lambda: replayed(batched(ROWS)), "draws batches itself"),
    "replay inside normalisation": (
        lambda: with_observation_normalization(replayed(ROWS)),
        r"with_replay\(with_observation_normalization\(agent",
    ),
    "replay inside scaling inside normalisation": (
        lambda: with_observation_normalization(with_reward_scaling(replayed(ROWS))),
        r"with_replay\(with_observation_normalization\(agent",
    ),
    "a planner inside normalisation": (
        lambda: with_observation_normalization(needing(raw_observations=True)),
        "must stay raw",
    ),
    "a replayed planner inside normalisation": (
        lambda: with_observation_normalization(with_reward_scaling(needing(raw_observations=True))),
        "must stay raw",
    ),
    "minibatches inside normalisation": (
        lambda: with_observation_normalization(batched(ROWS)),
        r"with_minibatches\(with_observation_normalization\(agent",
    ),
    "minibatches inside scaling": (lambda: with_reward_scaling(batched(ROWS)), "in order of time"),
    "trajectories in minibatches": (lambda: batched(STEPS), "steps in order of time"),
    "scaling in minibatches": (lambda: batched(with_reward_scaling(ROWS)), "continues from update to update"),
    "replay in minibatches": (lambda: batched(replayed(ROWS)), "continues from update to update"),
    "episodes in minibatches": (lambda: batched(EPISODES), "whole episodes"),
    "several agents inside replay": (
        lambda: replayed(shared(ROWS)),
        r"with_shared_policy\(with_replay\(agent\), num_agents",
    ),
    "several agents inside normalisation": (
        lambda: with_observation_normalization(shared(ROWS)),
        r"with_shared_policy\(with_observation_normalization\(agent\), num_agents",
    ),
    "several agents inside scaling": (
        lambda: with_reward_scaling(with_separate_policies(ROWS, 2)),
        r"with_shared_policy\(with_reward_scaling\(agent\), num_agents",
    ),
    "an mdp in minibatches": (lambda: batched(needing("whole")), "its data whole"),
}
ALLOWED = {
    "normalisation inside replay": (lambda: replayed(with_observation_normalization(STEPS)), "stream"),
    "scaling around replay": (lambda: with_reward_scaling(replayed(with_observation_normalization(ROWS))), "stream"),
    "scaling and normalisation": (lambda: with_reward_scaling(with_observation_normalization(STEPS)), "stream"),
    "several agents around everything": (lambda: shared(with_reward_scaling(replayed(ROWS))), "stream"),
    "scaling of whole episodes": (lambda: with_reward_scaling(EPISODES), "episodes"),
    "normalisation of whole episodes": (lambda: with_observation_normalization(EPISODES), "episodes"),
    "normalisation in minibatches": (lambda: batched(with_observation_normalization(ROWS)), "whole"),
}


@pytest.mark.parametrize("order", REFUSED)
def test_an_unsound_order_is_refused_with_the_right_one(order):
    compose, message = REFUSED[order]
    with pytest.warns(UserWarning, match=message):
        agent = compose()
    with pytest.raises(ValueError, match=message):
        agent.init(jax.random.key(0), (), jnp.zeros(2), 2)
    with pytest.raises(ValueError, match=message):
        agent.update(jax.random.key(0), (), None)


@pytest.mark.parametrize("order", ALLOWED)
def test_a_sound_order_says_what_it_needs(order):
    compose, data = ALLOWED[order]
    assert compose().requires.data == data


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (replayed, "with_replay"),
        (batched, "with_minibatches"),
        (shared, "with_shared_policy"),
        (lambda agent: with_separate_policies(agent, 2), "with_separate_policies"),
        (with_observation_normalization, "with_observation_normalization"),
        (with_reward_scaling, "with_reward_scaling"),
        (with_adaptive_kl, "with_adaptive_kl"),
        (with_precision, "with_precision"),
    ],
)
def test_something_that_is_not_an_agent_is_named(wrap, name):
    with pytest.raises(TypeError, match=f"{name} wraps a purerl.Agent, such as purerl.ppo returns; got a value of"):
        wrap(needing)


def test_a_composed_agent_cuts_every_part_that_remembers_episodes():
    inner = Agent(
        lambda key, hparams, example, num_envs=1: jnp.int32(0),
        lambda key, state, obs: (jnp.int32(0), ()),
        lambda key, state, data: (state, {}),
        cut=lambda state: state + 1,
    )
    agent = with_reward_scaling(replayed(with_observation_normalization(inner)))
    state = agent.init(jax.random.key(0), (), jnp.zeros(2), 2)
    state = agent.cut(state)
    assert state.agent.agent.agent == 1
    assert state.agent.ring.steps.truncated[-1].all()


@pytest.mark.parametrize(
    "combinator", [replayed, batched, with_observation_normalization, with_reward_scaling, with_adaptive_kl]
)
def test_a_composed_agent_checks_hyperparameters_as_the_agent_inside_does(combinator):
    assert combinator(ROWS._replace(check=print)).check is print
