"""Refusing networks that an agent would use wrongly and without an error. What a network does not declare passes."""

from __future__ import annotations

from purerl.agents.common import policy_network
from purerl.types import Network


def refuse_memory(network: Network, agent: str, why: str = "learns from single steps") -> None:
    """Reject a network with memory.

    Raises:
      TypeError: names the agent.

    Examples:
      >>> from purerl import envs, networks
      >>> refuse_memory(networks.recurrent_q_network(envs.probe()), "dqn")
      Traceback (most recent call last):
      TypeError: dqn learns from single steps; the network must have no memory
    """
    if policy_network.has_memory(network):
        raise TypeError(f"{agent} {why}; the network must have no memory")


def refuse_noise(network: Network, agent: str) -> None:
    """Reject a network of learned noise, `noisy=True`, for an agent that never draws it.

    Raises:
      ValueError: names the agent.

    Examples:
      >>> from purerl import envs, networks
      >>> refuse_noise(networks.q_network(envs.probe(), noisy=True), "pqn")
      Traceback (most recent call last):
      ValueError: the network has noisy=True, but pqn does not draw its noise: use noisy=False
    """
    if getattr(network, "noisy", None) is True:
        raise ValueError(f"the network has noisy=True, but {agent} does not draw its noise: use noisy=False")


def check_critic(critic: Network, agent: str, *, dropout: bool = False) -> None:
    """Reject a critic with running statistics, and one whose dropout is not what the agent draws.

    Args:
      critic: of real actions.
      agent: its name, for the message.
      dropout: whether the agent draws dropout.

    Raises:
      ValueError: names the agent.

    Examples:
      >>> from purerl import envs, networks
      >>> check_critic(networks.batch_norm_critic(envs.probe(continuous=True)), "sac")
      Traceback (most recent call last):
      ValueError: sac would train the critic's running statistics as parameters: use networks.critic(env), or crossq
    """
    if hasattr(critic, "apply_training"):
        raise ValueError(
            f"{agent} would train the critic's running statistics as parameters: use networks.critic(env), or crossq"
        )
    rate = getattr(critic, "dropout", None)
    if not isinstance(rate, int | float):
        return
    if dropout and rate == 0:
        raise ValueError(f"{agent} needs a critic with dropout, such as networks.critic(env, dropout=0.01)")
    if rate > 0 and not dropout:
        raise ValueError(f"the critic has dropout={rate}, but {agent} does not draw it: use dropout=0, or droq")
