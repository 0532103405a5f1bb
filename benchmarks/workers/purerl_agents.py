"""The agents that purerl's side trains, with the settings that every side has."""

from __future__ import annotations

from typing import Any

import purerl
from benchmarks.peers.flax_weights import FlaxWeights
from purerl.types import Agent, Env, Hparams

Workload = dict[str, Any]


def make(workload: Workload, env: Env) -> tuple[Agent, Hparams]:
    """The agent and its hyperparameters."""
    return _MAKERS[workload["algorithm"]](workload, env)


def _ppo(workload: Workload, env: Env) -> tuple[Agent, Hparams]:
    network = FlaxWeights(purerl.networks.actor_critic(env, convolution=False))  # rejax flattens images
    return purerl.ppo(network, num_epochs=4, num_minibatches=4), purerl.PPOHparams()


def _recurrent_ppo(workload: Workload, env: Env) -> tuple[Agent, Hparams]:
    network = purerl.networks.recurrent_actor_critic(env)
    return purerl.ppo(network, num_epochs=4, num_minibatches=4), purerl.PPOHparams()


def _pqn(workload: Workload, env: Env) -> tuple[Agent, Hparams]:
    network = purerl.networks.q_network(env, (64, 64), layer_norm=True)  # as rejax has it, whatever it is asked for
    return purerl.pqn(network, num_epochs=4, num_minibatches=4), purerl.PQNHparams()


def _dqn(workload: Workload, env: Env) -> tuple[Agent, Hparams]:
    double = workload["algorithm"] == "double_dqn"  # as rejax has it, with squared errors; the others have neither
    agent = purerl.dqn(purerl.networks.q_network(env, (120, 84)), double=double, huber=not double)
    return _replayed(workload, agent), purerl.DQNHparams(learning_rate=3e-4, target_period=200)


def _sac(workload: Workload, env: Env) -> tuple[Agent, Hparams]:
    networks = purerl.networks
    agent = purerl.sac(networks.gaussian_actor(env, (64, 64)), networks.critic(env, (64, 64)))
    return _replayed(workload, agent), purerl.SACHparams(3e-4, 3e-4, 3e-4, discount=0.99, tau=0.01)


def _td3(workload: Workload, env: Env) -> tuple[Agent, Hparams]:
    networks = purerl.networks
    agent = purerl.td3(networks.deterministic_actor(env, (64, 64)), networks.critic(env, (64, 64)))
    two = workload | {"batch_size": 2 * workload["batch_size"]}  # a batch for each of the critics' two steps
    return _replayed(two, agent), purerl.TD3Hparams(3e-4, 3e-4, discount=0.99, tau=0.01)


def _replayed(workload: Workload, agent: Agent) -> Agent:
    sizes = {"capacity": workload["capacity"], "batch_size": workload["batch_size"]}
    return purerl.combinators.with_replay(agent, **sizes)


_MAKERS = {
    "double_dqn": _dqn,
    "dqn": _dqn,
    "ppo": _ppo,
    "pqn": _pqn,
    "recurrent_ppo": _recurrent_ppo,
    "sac": _sac,
    "td3": _td3,
}
