"""An agent that breaks the protocol gets an error that names the function, what it did and what is wanted."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest

import purerl
from purerl import envs, networks
from purerl.loops import checking
from purerl.types import Agent, Requirements, TrainState

ENV = envs.probe()
NETWORK = networks.actor_critic(ENV, hidden=(4,))
SIZES = {"num_updates": 2, "num_envs": 2, "rollout_length": 3}


class Hparams(NamedTuple):
    learning_rate: float = 1e-3


HPARAMS = Hparams()


@dataclasses.dataclass(frozen=True)
class Plain:
    learning_rate: float = 1e-3


def init(key, hparams, example, num_envs=1):
    params = NETWORK.init(key, example)
    return TrainState(params, optax.sgd(hparams.learning_rate).init(params), hparams, jnp.int32(0))


def act(key, state, obs):
    distribution, _ = NETWORK.apply(state.params, obs)
    return distribution.mode() if key is None else distribution.sample(seed=key), ()


def update(key, state, data):
    return state._replace(num_updates=state.num_updates + 1), {"loss/policy": data.reward.mean()}


def sample(key, state, obs):
    return NETWORK.apply(state.params, obs)[0].sample(seed=key), ()


def agent(**changes):
    return Agent(init, act, update)._replace(**changes)


def train(agent, hparams=HPARAMS):
    return purerl.train(jax.random.key(0), agent, ENV, hparams, **SIZES)


def evaluate(agent, state):
    return purerl.evaluate(jax.random.key(1), agent, ENV, state, num_episodes=2, max_steps=3)


def some_state():
    return init(jax.random.key(0), Hparams(), jnp.zeros(1))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"init": lambda key, hparams, example: ()}, TypeError, r"Agent.init must take .*num_envs=1.*signature is"),
        ({"act": lambda key, state: ()}, TypeError, r"Agent.act must take \(key, state, obs\)"),
        ({"act": lambda *args: jnp.int32(0)}, TypeError, r"return \(action, aux\); got an array int32\[\]"),
        ({"act": lambda *args: (0, (), ())}, TypeError, r"must return \(action, aux\); got a tuple of 3"),
        ({"act": lambda *args: (jnp.zeros(1, int), ())}, TypeError, r"action is int32\[1\].*action space is Discrete"),
        ({"act": lambda *args: (jnp.float32(0), ())}, TypeError, r"action is float32\[\]"),
        ({"memory": lambda key, state: ()}, TypeError, r"Agent.act must take \(key, state, obs, memory\)"),
        ({"update": lambda key, state, data: state}, TypeError, r"return \(state, metrics\); got .* TrainState"),
        ({"update": lambda key, state, data: (state, data.reward)}, TypeError, r"a dict of scalars.*float32"),
        ({"update": lambda key, state: (state, {})}, TypeError, r"Agent.update must take \(key, state, data\)"),
        ({"requires": "trajectory"}, TypeError, r"Requirements\(data='trajectory'\); got 'trajectory'"),
        ({"requires": Requirements(data="traj")}, ValueError, r"requires.data must be one of rows, .*; got 'traj'"),
    ],
)  # fmt: skip
def test_a_function_that_breaks_the_protocol_is_named_by_train(changes, error, message):
    with pytest.raises(error, match=message):
        train(agent(**changes))


def test_fit_names_an_update_that_returns_only_the_state():
    data = purerl.Transition(jnp.zeros((4, 1)), *[jnp.zeros(4)] * 4, jnp.zeros((4, 1)))
    broken = agent(update=lambda key, state, data: [state, {}])
    with pytest.raises(TypeError, match=r"Agent.update must return \(state, metrics\)"):
        purerl.fit(jax.random.key(0), broken, data, Hparams(), num_updates=1)


@pytest.mark.parametrize("data", ["trajectory", "stream", "episodes"])
def test_fit_refuses_rows_for_an_agent_that_needs_steps_in_order_of_time(data):
    agent = Agent(print, print, print, requires=Requirements(data))
    rows, ends = jnp.zeros(5), jnp.zeros(5, bool)
    with pytest.raises(ValueError, match=r"needs a trajectory, .* but data\.reward has shape \(5,\)"):
        purerl.fit(jax.random.key(0), agent, purerl.Transition(rows, rows, rows, ends, ends, rows), (), num_updates=1)


def test_fit_sends_an_environment_to_train():
    with pytest.raises(TypeError, match=r"got an environment: use purerl\.train"):
        purerl.fit(jax.random.key(0), Agent(print, print, print), envs.probe(), (), num_updates=1)


def test_an_agent_that_samples_without_a_key_is_named_by_evaluate():
    with pytest.raises(TypeError, match=r"Agent.act draws random numbers with key=None.*greedy action.*mode"):
        evaluate(agent(act=sample), some_state())


def test_evaluate_names_an_act_that_returns_only_the_action():
    with pytest.raises(TypeError, match=r"Agent.act must return \(action, aux\)"):
        evaluate(agent(act=lambda key, state, obs: act(key, state, obs)[0]), some_state())


def test_evaluate_names_an_action_of_another_shape():
    with pytest.raises(TypeError, match=r"the agent's action is int32\[1\]"):
        evaluate(agent(act=lambda *args: (jnp.zeros(1, jnp.int32), ())), some_state())


def test_deploy_names_an_act_that_returns_only_the_action():
    policy = purerl.loops.deploy(agent(act=lambda *args: jnp.zeros(3)), ENV, some_state())
    with pytest.raises(TypeError, match=r"Agent.act must return \(action, aux\)"):
        policy(jnp.zeros(1))


def test_an_environment_in_the_place_of_the_agent_is_said_to_be_one():
    with pytest.raises(TypeError, match=r"agent must be a purerl.Agent, got .*Env: the agent comes before the env"):
        purerl.train(jax.random.key(0), ENV, agent(), Hparams(), **SIZES)


def test_a_plain_dataclass_of_hyperparameters_is_refused_by_name():
    with pytest.raises(TypeError, match="hparams must be a NamedTuple of hyperparameters, not Plain"):
        train(agent(), Plain())


def test_python_numbers_are_actions_and_metrics():
    constant = agent(act=lambda key, state, obs: (0, ()), update=lambda key, state, data: (state, {"a": 1.5}))
    assert train(constant)[1]["a"].tolist() == [1.5, 1.5]


def test_priorities_of_windows_pass():
    given = {"priority": jnp.zeros(3)}
    assert checking.update(agent(update=lambda *args: ((), given)), jax.random.key(0), (), ())[1] == given


def test_checks_trace_no_function_again():
    counts = {"act": 0, "update": 0}

    def counting(name, function):
        def counted(*args):
            counts[name] += 1
            return function(*args)

        return counted

    mine = agent(act=counting("act", act), update=counting("update", update))
    train(mine)
    first = dict(counts)
    train(mine, Hparams(0.5))
    assert counts == first
    assert counts["update"] == 1


def refuse_half(hparams):
    if hparams.learning_rate == 0.5:
        raise ValueError("this agent cannot learn at 0.5")


LOOPS = {
    "train": lambda agent, hparams: purerl.train(jax.random.key(0), agent, ENV, hparams, **SIZES),
    "start": lambda agent, hparams: purerl.loops.start(jax.random.key(0), agent, ENV, hparams, num_envs=2),
    "fit": lambda agent, hparams: purerl.fit(jax.random.key(0), agent, jnp.zeros((2, 2)), hparams, num_updates=1),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_an_agent_may_refuse_hyperparameters_within_their_ranges(loop):
    with pytest.raises(ValueError, match="this agent cannot learn"):
        LOOPS[loop](agent()._replace(check=refuse_half), Hparams(0.5))


def test_a_hyperparameter_that_the_check_of_an_agent_misses_is_named():
    def check(hparams):
        return hparams.beta

    with pytest.raises(TypeError, match="the field 'beta', which this agent reads; got Hparams"):
        checking.check_hparams(agent()._replace(check=check), HPARAMS)


def test_the_check_of_an_agent_sees_no_traced_hyperparameters():
    jax.jit(lambda hparams: checking.check_hparams(agent()._replace(check=refuse_half), hparams))(Hparams(0.5))
