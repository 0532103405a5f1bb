"""Several agents: which rows a policy sees when all share it, and when each has its own."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import envs
from purerl.agents.ask_tell import AskTellHparams, from_evosax
from purerl.combinators import (
    KLPenaltyHparams,
    kl_penalized_policy_loss,
    with_adaptive_kl,
    with_replay,
    with_separate_policies,
    with_shared_policy,
)
from purerl.envs.adapters.side_by_side import Single, side_by_side
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete
from purerl.types import Agent, Env, EnvStep


class State(NamedTuple):
    hparams: Any
    seen: Any


class Hparams(NamedTuple):
    scale: Any = 1.0


def pair():
    """Two agents; agent 0 dies after one step, the environment is cut after three. An agent is paid its own number."""
    space = Dict({"agents": Box(-9.0, 9.0, (2, 1)), "action_mask": Box(0, 1, (2, 3), "bool")})

    def observe(time):
        alive = jnp.stack([time < 1, jnp.bool_(True)])
        rewards = jnp.where(time > 0, jnp.array([10.0, 20.0]), 0.0)
        seen = jnp.stack([time, 100 + time]).astype(jnp.float32)[:, None]
        mask = jnp.array([[True, False, False], [False, True, True]])
        return {"agents": seen, "action_mask": mask, "rewards": rewards, "alive": alive}

    def reset(key, env_params=None):
        return observe(jnp.int32(0)), jnp.int32(0)

    def step(key, time, action, env_params=None):
        time = time + 1
        return EnvStep(observe(time), time, jnp.float32(15), jnp.bool_(False), time >= 3)

    return Env(reset, step, space, MultiDiscrete((3, 3)))


def watcher():
    """Acts by the first allowed action, and keeps the data of its last update."""

    def init(key, hparams, example, num_envs=1):
        assert example["obs"].shape == (1,)
        return State(hparams, jnp.int32(num_envs))

    def act(key, state, obs):
        return jnp.argmax(obs["action_mask"]).astype(jnp.int32), {"seen": obs["obs"][0]}

    def update(key, state, data):
        return state, {
            "rows": jnp.float32(data.reward.size),
            "paid": jnp.sum(data.reward * data.mask),
            "ended": jnp.sum(data.terminated * data.mask),
            "cut": jnp.sum(data.truncated * data.mask),
            "first": data.obs["obs"][0, 0, 0],
            "scale": state.hparams.scale * 1.0,
        }

    return Agent(init, act, update)


def trained(agent):
    return purerl.train(jax.random.key(0), agent, pair(), Hparams(2.0), num_updates=1, num_envs=5, rollout_length=3)


def test_a_shared_policy_learns_from_the_living_steps_of_all_agents():
    state, metrics = trained(with_shared_policy(watcher(), 2))
    assert state.seen == 10
    # of 3 steps agent 0 lives one, which ends it; agent 1 lives all three and is cut
    assert {name: value.item() for name, value in metrics.items() if name in ("rows", "paid", "ended", "cut")} == {
        "rows": 30, "paid": 5 * (10 + 3 * 20), "ended": 5, "cut": 5,
    }  # fmt: skip
    assert metrics["episode_return"].item() == 45


def test_separate_policies_see_an_agent_each():
    agent = with_separate_policies(watcher(), 2)
    state, metrics = trained(agent)
    assert state.agent.seen.tolist() == [5, 5]
    assert (metrics["rows"].item(), metrics["first"].item(), metrics["scale"].item()) == (15, 50, 2)
    again, _ = purerl.train(
        jax.random.key(0), agent, pair(), Hparams(3.0), num_updates=1, num_envs=5, rollout_length=3, state=state
    )
    assert again.agent.hparams.scale.tolist() == [3.0, 3.0]


def test_a_team_is_paid_the_mean():
    _, metrics = trained(with_shared_policy(watcher(), 2, team_reward=True))
    assert metrics["paid"].item() == 5 * 4 * 15


def test_replay_gets_the_steps_of_the_dead_as_ends_without_reward():
    keeping = watcher()._replace(
        requires=purerl.types.Requirements(keeps_data=True),
        update=lambda key, state, data: (state, {"paid": data.reward.sum(), "ended": data.terminated.sum()}),
    )
    _, metrics = trained(with_shared_policy(keeping, 2))
    assert (metrics["paid"].item(), metrics["ended"].item()) == (5 * (10 + 3 * 20), 5 * 3)


@pytest.mark.parametrize("wrap", [with_shared_policy, with_separate_policies])
def test_replay_inside_refuses_whole_episodes_as_it_does_alone(wrap):
    agent = wrap(with_replay(watcher()._replace(init=lambda *_: State(Hparams(), 0)), capacity=64, batch_size=4), 2)
    episodes = purerl.loops.rollout_episodes
    with pytest.raises(ValueError, match="with_replay takes whole rollouts; rollout_episodes masks its steps"):
        purerl.train(
            jax.random.key(0), agent, pair(), Hparams(), num_updates=1, num_envs=5, rollout_length=3, rollout=episodes
        )


def test_each_agent_acts_on_its_own_part():
    obs, _ = pair().reset(jax.random.key(0))
    action, aux = with_shared_policy(watcher(), 2).act(None, State(Hparams(), 0), obs)
    assert (action.tolist(), aux["seen"].tolist()) == ([0, 1], [0, 100])
    assert envs.one_agent(pair()).action_space.n == 3


def test_ppo_trains_with_a_policy_for_all_and_for_each():
    env = pair()
    ppo = purerl.ppo(purerl.networks.actor_critic(envs.one_agent(env), (4,)), num_epochs=1, num_minibatches=1)
    for wrapped in (with_shared_policy(ppo, 2), with_separate_policies(ppo, 2)):
        run = lambda key: purerl.train(  # noqa: E731
            key, wrapped, env, purerl.PPOHparams(), num_updates=1, num_envs=2, rollout_length=3
        )  # fmt: skip
        _, metrics = jax.eval_shape(run, jax.random.key(0))
        assert metrics["loss/policy"].shape == (1,)


def test_another_number_of_agents_is_refused():
    with pytest.raises(ValueError, match="num_agents is 3, but the environment has 2 agents"):
        trained(with_shared_policy(watcher(), 3))


# --- Agents whose memory is a candidate, and hyperparameters that an update writes ------------------------------------


def unmasked_pair():
    env = pair()
    unmasked = lambda obs: {name: part for name, part in obs.items() if name != "action_mask"}  # noqa: E731

    def reset(key, env_params=None):
        obs, time = env.reset(key)
        return unmasked(obs), time

    def step(key, time, action, env_params=None):
        new = env.step(key, time, action)
        return new._replace(obs=unmasked(new.obs))

    return env._replace(reset=reset, step=step, observation_space=Dict({"agents": env.observation_space["agents"]}))


def memories(agent, hparams, num_envs):
    """What the environments begin with under each of two seeds, leaves [2, N, A, ...]."""

    def begin(key):
        return purerl.loops.start(key, agent, UNMASKED, hparams, num_envs=num_envs).actors.memory

    return jax.vmap(begin)(jax.random.split(jax.random.key(0), 2))


UNMASKED = unmasked_pair()
ONE = envs.one_agent(UNMASKED)


@pytest.mark.parametrize("wrap", [with_shared_policy, with_separate_policies])
def test_antithetic_pairs_play_in_different_environments(wrap):
    agent = wrap(purerl.evolution(purerl.networks.actor_critic(ONE, (4,))), 2)
    noise = np.asarray(memories(agent, purerl.EvolutionHparams(), 4).noise)  # [2, N, A, D]
    np.testing.assert_array_equal(noise[:, 2:], -noise[:, :2])
    apart = np.corrcoef(noise[:, :2].reshape(8, -1))
    assert np.abs(apart - np.eye(8)).max() < 0.5


def meeting():
    """One step that pays both agents by how close their actions are to 0.8."""

    def observe(reward):
        return {"agents": jnp.ones((2, 1)), "rewards": jnp.full(2, reward), "alive": jnp.ones(2, bool)}

    def step(key, state, action, env_params=None):
        reward = -jnp.square(action - 0.8).mean()
        return EnvStep(observe(reward), state, reward, jnp.bool_(True), jnp.bool_(False))

    space = Dict({"agents": Box(-1.0, 1.0, (2, 1))})
    return Env(lambda key, env_params=None: (observe(0.0), jnp.int32(0)), step, space, Box(-1.0, 1.0, (2, 1)))


@pytest.mark.parametrize("wrap", [with_shared_policy, with_separate_policies])
def test_agents_that_are_paid_together_learn_by_antithetic_evolution(wrap):
    env = meeting()
    agent = wrap(purerl.evolution(purerl.networks.actor_critic(envs.one_agent(env), (4,))), 2)
    hparams = purerl.EvolutionHparams(learning_rate=3e-2, noise_std=0.1)
    sizes = {"num_updates": 60, "num_envs": 32, "rollout_length": 1, "rollout": purerl.loops.rollout_episodes}
    state, _ = purerl.train(jax.random.key(0), agent, env, hparams, **sizes)
    played = purerl.evaluate(jax.random.key(1), agent, env, state, num_episodes=1, max_steps=1)
    assert played.episode_return.item() > -0.05


class Settings(NamedTuple):
    def replace(self):
        return self


class Numbered:
    """A strategy whose candidates are the numbers 0 to 7."""

    population_size, default_params = 8, Settings()

    def init(self, key, mean, params):
        return mean

    def ask(self, key, state, params):
        return jax.tree.map(lambda leaf: leaf + jnp.arange(8.0), state), state

    def tell(self, key, population, fitness, state, params):
        return state, {}

    def get_mean(self, state):
        return state


class Number(NamedTuple):
    """A policy of one parameter that always takes action 0."""

    init: Any = lambda key, obs: jnp.float32(0)
    apply: Any = lambda params, obs: (purerl.distributions.categorical(jnp.array([1.0, 0.0, params * 0])), 0.0)


def test_agents_that_share_a_strategy_play_all_its_candidates_in_the_order_of_update():
    agent = with_shared_policy(from_evosax(Number(), Numbered()), 2)
    played = memories(agent, AskTellHparams(), 4)
    assert played[0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize("kind", ["evolution", "recurrent"])
def test_separate_policies_with_memory_resume(kind):
    if kind == "evolution":
        hparams, rollout = purerl.EvolutionHparams(), purerl.loops.rollout_episodes
        agent = purerl.evolution(purerl.networks.actor_critic(ONE, (4,)))
    else:
        hparams, rollout = purerl.PPOHparams(), purerl.loops.rollout
        network = purerl.networks.recurrent_actor_critic(ONE, hidden=(4,), memory_size=4)
        agent = purerl.ppo(network, num_epochs=1, num_minibatches=1)
    agent = with_separate_policies(agent, 2)
    sizes = {"num_updates": 1, "num_envs": 2, "rollout_length": 3, "rollout": rollout}
    state, _ = purerl.train(jax.random.key(0), agent, UNMASKED, hparams, **sizes)
    again, _ = purerl.train(jax.random.key(1), agent, UNMASKED, hparams, state=state, **sizes)
    assert again.agent.num_updates.tolist() == [2, 2]


def test_each_separate_policy_adapts_its_own_hyperparameters():
    ppo = purerl.ppo(
        purerl.networks.actor_critic(ONE, (4,)), num_epochs=1, num_minibatches=1, policy_loss=kl_penalized_policy_loss
    )
    agent = with_separate_policies(with_adaptive_kl(ppo), 2)
    hparams = KLPenaltyHparams(kl_coef=1.0, kl_target=1e9)
    sizes = {"num_updates": 3, "num_envs": 2, "rollout_length": 3}
    state, metrics = purerl.train(jax.random.key(0), agent, UNMASKED, hparams, **sizes)
    assert metrics["loss/kl_coef"].tolist() == [1, 0.5, 0.25]
    assert purerl.types.get_hparams(state).kl_coef.tolist() == [0.125, 0.125]
    again, _ = purerl.train(jax.random.key(0), agent, UNMASKED, hparams, state=state, **sizes)
    assert purerl.types.get_hparams(again).kl_coef.tolist() == [0.125, 0.125]


# --- A central critic -------------------------------------------------------------------------------------------------


def coin():
    """One step that pays both agents a coin, ±1, which agent 1 sees and agent 0 does not."""

    def observe(value, rewards):
        rows = jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).at[1, 0].set(value)
        return {"agents": rows, "rewards": jnp.full(2, rewards), "alive": jnp.ones(2, bool)}

    def reset(key, env_params=None):
        value = 2.0 * jax.random.bernoulli(key) - 1
        return observe(value, 0.0), value

    def step(key, value, action, env_params=None):
        return EnvStep(observe(value, value), value, value, jnp.bool_(True), jnp.bool_(False))

    return Env(reset, step, Dict({"agents": Box(-1.0, 1.0, (2, 3))}), MultiDiscrete((2, 2)))


@pytest.mark.parametrize(
    ("seen", "done"),
    [(MultiDiscrete((2, 2)), MultiDiscrete((2, 2))), (Box(0.0, 1.0), MultiDiscrete((2, 2))),
     (Box(0.0, 1.0, (2, 1)), Discrete(2)), (Box(0.0, 1.0, (2, 1)), Dict({"agents": MultiDiscrete((2, 2))}))],
)  # fmt: skip
def test_agents_that_are_not_rows_of_boxes_are_refused(seen, done):
    with pytest.raises(TypeError, match=r"must be of a Box \[A, \.\.\.\]"):
        envs.one_agent(Env(None, None, Dict({"agents": seen}), done))


def test_a_central_critic_sees_all_and_the_actor_its_own():
    env = envs.central_critic(coin())
    obs, value = env.reset(jax.random.key(0))
    mine, other = [0, 1, 0], [value.item(), 0, 1]
    assert obs["agents"]["actor"].tolist() == [mine, other]
    assert obs["agents"]["critic"].tolist() == [mine + mine + other, other + mine + other]
    assert env.observation_space["agents"]["critic"].shape == (2, 9)
    assert envs.one_agent(env).observation_space["critic"].shape == (9,)


def coin_on_the_host(seed):
    """Two such environments, whose coins are drawn by NumPy."""
    rng = np.random.default_rng(seed)

    def observed(value, rewards=0.0):
        rows = np.array([[0, 1, 0], [value, 0, 1]], np.float32)
        return {"agents": rows, "rewards": np.full(2, rewards, np.float32), "alive": np.ones(2, bool)}

    def single():
        last = [0.0]

        def reset(seed):
            last[0] = rng.choice([-1.0, 1.0])
            return observed(last[0])

        return Single(reset, lambda action: (observed(last[0], last[0]), last[0], True, False), lambda: None)

    seen = Dict({"agents": Box(-1.0, 1.0, (2, 3))})
    return side_by_side([single(), single()], seen, MultiDiscrete((2, 2)))


def test_a_central_critic_on_the_host_sees_what_it_sees_in_jax():
    env = envs.central_critic(coin_on_the_host(0))
    first = env.reset(0)
    step = env.step(np.zeros((2, 2), int))
    for obs in (first, step.obs, step.next_obs):
        values = obs["agents"]["actor"][:, 1, 0]  # [N], of the coins
        expected = [[[0, 1, 0, 0, 1, 0, v, 0, 1], [v, 0, 1, 0, 1, 0, v, 0, 1]] for v in values]
        np.testing.assert_array_equal(obs["agents"]["critic"], expected)
    np.testing.assert_array_equal(step.next_obs["agents"]["critic"], first["agents"]["critic"])
    assert env.observation_space == envs.central_critic(coin()).observation_space


def test_ppo_with_a_central_critic_trains_on_the_host():
    env = envs.central_critic(coin_on_the_host(1))
    ppo = purerl.ppo(purerl.networks.actor_critic(envs.one_agent(env), (4,)), num_epochs=1, num_minibatches=1)
    agent = with_shared_policy(ppo, 2)
    _, metrics = purerl.train_on_host(
        jax.random.key(0), agent, env, purerl.PPOHparams(), num_updates=2, rollout_length=4
    )
    assert np.isfinite(metrics["loss/value"]).all()


def painters(num_envs=2):
    """Two agents on the host: agent i sees an image of i + 1 and a speed of 10 i, and is paid 1."""
    camera = np.stack([np.full((3, 4, 2), i + 1, np.uint8) for i in range(2)])
    seen = {"camera": camera, "speed": np.array([0.0, 10.0], np.float32)}
    obs = {"agents": seen, "rewards": np.ones(2, np.float32), "alive": np.ones(2, bool)}
    one = lambda: Single(lambda seed: obs, lambda action: (obs, 1.0, True, False), lambda: None)  # noqa: E731
    space = Dict({"camera": Box(0, 255, (2, 3, 4, 2), "uint8"), "speed": Box(-99.0, 99.0, (2,))})
    return side_by_side([one() for _ in range(num_envs)], Dict({"agents": space}), MultiDiscrete((2, 2)))


def test_a_central_critic_sees_images_of_all_as_channels_and_of_a_dict_each_part():
    env = envs.central_critic(painters())
    seen, space = env.reset(0)["agents"], env.observation_space["agents"]
    assert seen["critic"]["camera"].shape == (2, 2, 3, 4, 6)
    assert seen["critic"]["camera"].dtype == np.uint8
    assert seen["critic"]["camera"][1, :, 2, 3].tolist() == [[1, 1, 1, 1, 2, 2], [2, 2, 1, 1, 2, 2]]
    assert seen["critic"]["speed"][0].tolist() == [[0, 0, 10], [10, 0, 10]]
    assert seen["actor"]["camera"].shape == (2, 2, 3, 4, 2)
    assert space["critic"]["camera"] == Box(0, 255, (2, 3, 4, 6), "uint8")
    assert space["critic"]["speed"].shape == (2, 3)


def test_ppo_with_a_central_critic_learns_from_images():
    env = envs.central_critic(painters())
    network = purerl.networks.actor_critic(envs.one_agent(env), (4,), convolution=False)
    agent = with_shared_policy(purerl.ppo(network, num_epochs=1, num_minibatches=1), 2)
    state, metrics = purerl.train_on_host(
        jax.random.key(0), agent, env, purerl.PPOHparams(), num_updates=1, rollout_length=4
    )
    kernel = state.params["params"]["critic"]["Dense_0"]["kernel"]
    assert kernel.shape == (3 * 4 * 6 + 3, 4)
    assert np.isfinite(metrics["loss/value"]).all()


def values_of_agent_0(env):
    """The values that PPO learns for agent 0 where the coin is -1 and 1."""
    network = purerl.networks.actor_critic(envs.one_agent(env), (16,))
    agent = with_shared_policy(purerl.ppo(network, num_epochs=4, num_minibatches=1), 2)
    hparams = purerl.PPOHparams(learning_rate=3e-2, value_clip_epsilon=jnp.inf)
    sizes = {"num_updates": 60, "num_envs": 32, "rollout_length": 1}
    state, _ = purerl.train(jax.random.key(0), agent, env, hparams, **sizes)
    obs, coins = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), 32))
    mine = jax.tree.map(lambda x: x[:, 0], obs["agents"])
    value = jax.vmap(network.apply, (None, 0))(state.params, mine)[1]
    return [value[coins == each].mean().item() for each in (-1, 1)]


def test_only_a_central_critic_knows_what_the_agent_does_not_see():
    assert values_of_agent_0(envs.central_critic(coin())) == pytest.approx([-1, 1], abs=0.05)
    own = values_of_agent_0(coin())
    assert own[0] == pytest.approx(own[1])


def test_the_policy_does_not_read_what_the_critic_sees():
    one = envs.one_agent(envs.central_critic(pair()))
    network = purerl.networks.actor_critic(one, (4,), policy_scale=1.0)
    rows = {"actor": jnp.array([0.5]), "critic": jnp.array([0.1, -0.2, 0.3])}
    seen = rows | {"action_mask": jnp.ones(3, bool)}
    params = network.init(jax.random.key(0), seen)
    reads = lambda out: jax.grad(lambda x: out(network.apply(params, seen | x)).sum())  # noqa: E731
    of_policy = reads(lambda out: out[0].log_prob(0))(rows)
    of_value = reads(lambda out: out[1])(rows)
    assert (jnp.any(of_policy["actor"] != 0), jnp.any(of_policy["critic"] != 0)) == (True, False)
    assert (jnp.any(of_value["actor"] != 0), jnp.any(of_value["critic"] != 0)) == (False, True)


def test_a_shared_torso_and_observations_that_are_not_boxes_are_refused():
    with pytest.raises(ValueError, match="shared_torso"):
        purerl.networks.actor_critic(envs.one_agent(envs.central_critic(pair())), shared_torso=True)
    with pytest.raises(TypeError, match='must have the entry "agents"'):
        envs.central_critic(purerl.envs.make("CartPole-v1"))
    numbers = pair()._replace(observation_space=Dict({"agents": MultiDiscrete((3, 3))}))
    with pytest.raises(TypeError, match=r"observations of a Box \[A, ...\], or a dict of such; got MultiDiscrete"):
        envs.central_critic(numbers)
