"""Networks that an agent would use wrongly and without an error are refused, if they say what they are."""

import pytest

import purerl
from purerl import envs, networks
from purerl.agents.ask_tell import from_evosax

DISCRETE, REAL = envs.probe(), envs.probe(continuous=True)
PLANNED = envs.with_state(DISCRETE)


def policy(env=DISCRETE, **options):
    return networks.actor_critic(env, (4,), **options)


def recurrent_policy(env=DISCRETE):
    return networks.recurrent_actor_critic(env, hidden=(4,), memory_size=4)


def recurrent_values():
    return networks.recurrent_q_network(DISCRETE, hidden=(4,), memory_size=4)


def values(**options):
    return networks.q_network(DISCRETE, (4,), **options)


def critic(**options):
    return networks.critic(REAL, (4,), **options)


def actor():
    return networks.gaussian_actor(REAL, (4,))


def deterministic():
    return networks.deterministic_actor(REAL, (4,))


OF_CRITICS = {
    "sac": lambda critic: purerl.sac(actor(), critic),
    "tqc": lambda critic: purerl.tqc(actor(), critic),
    "droq": lambda critic: purerl.droq(actor(), critic),
    "td3": lambda critic: purerl.td3(deterministic(), critic),
    "td3_bc": lambda critic: purerl.td3_bc(deterministic(), critic),
    "iql": lambda critic: purerl.iql(policy(REAL), critic),
}


@pytest.mark.parametrize("name", OF_CRITICS)
def test_running_statistics_are_not_trained_as_parameters(name):
    with pytest.raises(ValueError, match=f"{name} would train the critic's running statistics"):
        OF_CRITICS[name](networks.batch_norm_critic(REAL, (4,)))


@pytest.mark.parametrize("name", sorted(OF_CRITICS.keys() - {"droq"}))
def test_dropout_that_is_not_drawn_is_refused(name):
    with pytest.raises(ValueError, match=rf"the critic has dropout=0\.1, but {name} does not draw it"):
        OF_CRITICS[name](critic(dropout=0.1))


def test_droq_needs_dropout():
    with pytest.raises(ValueError, match="droq needs a critic with dropout"):
        purerl.droq(actor(), critic())


def test_noise_that_the_network_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"explores by the network's noise, but the network has noisy=False"):
        purerl.dqn(values(), noisy=True)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (purerl.dqn, "dqn without noisy=True"),
        (purerl.pqn, "pqn"),
        (purerl.cql, "cql"),
        (lambda network: purerl.discrete_sac(policy(), network), "discrete_sac"),
    ],
)
def test_noise_that_is_not_drawn_is_refused(make, name):
    with pytest.raises(ValueError, match=f"the network has noisy=True, but {name} does not draw its noise"):
        make(values(noisy=True))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: purerl.dqn(recurrent_values()), "dqn"),
        (lambda: purerl.pqn(recurrent_values()), "pqn"),
        (lambda: purerl.cql(recurrent_values()), "cql"),
        (lambda: purerl.discrete_sac(recurrent_policy(), values()), "discrete_sac"),
        (lambda: purerl.discrete_sac(policy(), recurrent_values()), "discrete_sac"),
        (lambda: purerl.iql(recurrent_policy(REAL), critic()), "iql"),
        (lambda: purerl.sac(recurrent_policy(REAL), critic()), "sac"),
        (lambda: purerl.td3(recurrent_policy(REAL), critic()), "td3"),
        (lambda: purerl.evolution(recurrent_policy()), "evolution"),
        (lambda: purerl.cma_es(recurrent_policy()), "cma_es"),
        (lambda: from_evosax(recurrent_policy(), None), "from_evosax"),
        (lambda: purerl.alphazero(recurrent_policy(PLANNED), PLANNED), "alphazero"),
    ],
)
def test_a_network_with_memory_is_refused(make, name):
    with pytest.raises(TypeError, match=f"{name} .*; the network must have no memory"):
        make()


class Silent:
    """A network that does not say what it has."""

    action_space = REAL.action_space

    def init(self, key, *inputs):
        return ()

    def apply(self, params, *inputs):
        return inputs[0]


@pytest.mark.parametrize("name", OF_CRITICS)
def test_a_critic_that_does_not_say_what_it_has_is_accepted(name):
    OF_CRITICS[name](Silent())


@pytest.mark.parametrize("noisy", [False, True])
def test_a_network_of_values_that_does_not_say_what_it_has_is_accepted(noisy):
    purerl.dqn(Silent(), noisy=noisy)
