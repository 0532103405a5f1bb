"""The tables of settings: every entry builds, and what does not fit is refused by name."""

import json
import math
import os

import jax
import jax.numpy as jnp
import pytest

from purerl import envs, presets
from purerl.envs import references
from purerl.hparams import cast, get_params
from purerl.spaces import Box, Dict, Discrete, MultiDiscrete
from purerl.types import Env


def fake_env(observation_space, action_space) -> Env:
    return Env(None, None, observation_space, action_space)


FLAT, IMAGE = Box(-1.0, 1.0, (3,)), Box(0.0, 1.0, (10, 10, 4))
FRAMES = Box(0, 255, (84, 84, 4), "uint8")


@pytest.mark.parametrize("name", presets.ALGORITHMS)
def test_every_entry_of_a_table_is_plain_data_with_known_hyperparameters_and_whole_minibatches(name):
    entry = presets.ALGORITHMS[name]
    for key, preset in [*entry.presets.items(), *entry.fast.items()]:
        assert preset.algorithm == name
        assert presets.Preset(**json.loads(json.dumps(preset._asdict()))).num_updates == preset.num_updates, key
        presets.hparams(preset)
        batch = preset.num_envs * preset.rollout_length
        assert batch % preset.agent.get("num_minibatches", 1) == 0, key
        assert preset.num_steps >= batch, key


@pytest.mark.parametrize("name", presets.ALGORITHMS)
def test_every_default_search_space_can_be_read_and_fits(name):

    from purerl.sweep.trials.parsing import parse_spaces
    from purerl.sweep.trials.spaces import check_space

    entry = presets.ALGORITHMS[name]
    check_space(entry.hparams()(), parse_spaces(entry.space))


def test_an_environment_without_an_entry_takes_that_of_its_kind():
    table = presets.ALGORITHMS["ppo"].presets
    assert presets.find("ppo", "CartPole-v1", fake_env(FLAT, Discrete(2))) is table["CartPole-v1"]
    assert presets.find("ppo", "Other-v0", fake_env(FLAT, Discrete(2))) is table["any"]
    assert presets.find("ppo", "Other-v0", fake_env(FLAT, Box(-1.0, 1.0, (2,)))) is table["continuous"]
    assert presets.find("ppo", "Other-MinAtar", fake_env(IMAGE, Discrete(4))) is table["image"]
    assert (
        presets.find("dqn", "ale/Pong-v5", fake_env(FRAMES, Discrete(6))) is presets.ALGORITHMS["dqn"].presets["image"]
    )


def test_frames_of_atari_pass_the_convolution_of_dqn_and_one_torso():
    """Of 84 x 84 x 4 pixels three layers leave 7 x 7 x 64, and the torso 512: 1,684,128 numbers without the heads."""
    env = fake_env(FRAMES, Discrete(6))
    preset = presets.find("ppo", "ale/Pong-v5", env)
    assert preset is presets.ALGORITHMS["ppo"].presets["frames"]
    state = jax.eval_shape(
        presets.build(preset, env).init, jax.random.key(0), cast(presets.hparams(preset)),
        jax.ShapeDtypeStruct((84, 84, 4), jnp.uint8),
    )  # fmt: skip
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(get_params(state)))
    assert count == 1_684_128 + 512 * 6 + 6 + 512 + 1


def test_a_fast_preset_is_asked_for_by_name_and_missed_by_name():
    env = fake_env(FLAT, Discrete(2))
    fast = presets.find("ppo", "CartPole-v1", env, fast=True)
    assert fast.num_steps < presets.find("ppo", "CartPole-v1", env).num_steps / 5
    with pytest.raises(ValueError, match="dqn has no fast preset for CartPole-v1; there is one of ppo on CartPole-v1"):
        presets.find("dqn", "CartPole-v1", env, fast=True)


def test_an_unknown_algorithm_suggests_the_near_name():
    with pytest.raises(ValueError, match="'pppo'; did you mean 'ppo'"):
        presets.find("pppo", "CartPole-v1", fake_env(FLAT, Discrete(2)))
    assert presets.algorithm("PPO") is presets.ALGORITHMS["ppo"]
    with pytest.raises(ValueError, match=r"known are .*ppo"):
        presets.algorithm("zzzzzz")


def test_an_algorithm_that_cannot_act_there_says_who_can(monkeypatch):
    discrete = presets.ALGORITHMS["ppo"]._replace(actions=("Discrete",))
    monkeypatch.setitem(presets.ALGORITHMS, "discrete_only", discrete)
    with pytest.raises(ValueError, match=r"discrete_only needs a Discrete .* that of Pendulum-v1 is Box.*ppo"):
        presets.find("discrete_only", "Pendulum-v1", fake_env(FLAT, Box(-2.0, 2.0, (1,))))


def test_hyperparameters_are_checked_and_annealing_ends_with_the_run():
    preset = presets.ALGORITHMS["ppo"].presets["CartPole-v1"]._replace(num_steps=51_200, anneal=True)
    assert presets.hparams(preset).anneal_updates == 100.0 == preset.num_updates
    assert presets.hparams(preset._replace(hparams={"anneal_updates": 7.0})).anneal_updates == 7.0
    replayed = preset._replace(algorithm="dqn", replay={"num_updates": 10})  # an agent behind a replay counts its own
    assert presets.hparams(replayed).anneal_updates == 1000.0
    with pytest.raises(ValueError, match="'learning_rat'; did you mean 'learning_rate'"):
        presets.hparams(preset._replace(hparams={"learning_rat": 1e-3}))
    with pytest.raises(ValueError, match="discount"):
        presets.hparams(preset._replace(hparams={"discount": 1.5}))
    with pytest.raises(ValueError, match=r"learning_rate is NaN"):
        presets.hparams(preset._replace(hparams={"learning_rate": float("nan")}))


def test_a_planner_sees_the_state_of_its_environment():
    env = envs.make("CartPole-v1")
    assert presets.environment("ppo", env) is env
    planned = presets.environment("alphazero", env)
    assert set(planned.reset(jax.random.key(0))[0]) == {"obs", "env_state", "env_params"}
    assert presets.build(presets.find("alphazero", "CartPole-v1", env), planned).memory is None


def test_scaled_rewards_go_around_replay_and_normalised_observations_inside():
    env = envs.make("CartPole-v1")
    names = ("with_reward_scaling", "with_observation_normalization")
    sizes = {"capacity": 16, "batch_size": 4}
    preset = presets.Preset("dqn", 64, 2, 2, network={"hidden": (4,)}, combinators=names, replay=sizes)
    agent = presets.build(preset, env)
    state = jax.eval_shape(
        lambda key: agent.init(key, presets.hparams(preset), env.reset(key)[0], 2), jax.random.key(0)
    )
    kinds = [type(state).__name__, type(state.agent).__name__, type(state.agent.agent).__name__]
    assert kinds == ["ScaledState", "ReplayState", "NormalizedState"]


def test_combinators_are_applied_in_order_and_unknown_ones_refused():
    env = envs.make("CartPole-v1")
    preset = presets.ALGORITHMS["ppo"].presets["CartPole-v1"]
    plain = presets.build(preset, env)
    assert presets.build(preset._replace(combinators=("with_reward_scaling",)), env).update is not plain.update
    with pytest.raises(ValueError, match="'with_reward_scalin'; did you mean 'with_reward_scaling'"):
        presets.build(preset._replace(combinators=("with_reward_scalin",)), env)
    with pytest.raises(TypeError, match="num_epoch"):
        presets.build(preset._replace(agent={"num_epoch": 3}), env)


@pytest.mark.parametrize("name", presets.ALIASES)
def test_an_alias_builds_the_algorithm_that_it_stands_for(name):
    env = envs.make("Pendulum-v1" if name == "ddpg" else "CartPole-v1")
    preset = presets.find(name, "any", env)
    assert preset.algorithm == presets.ALIASES[name].algorithm
    assert presets.algorithm(name) is presets.ALGORITHMS[preset.algorithm]
    presets.hparams(preset)
    if not presets.algorithm(name).offline:
        presets.build(preset, env)


def test_rainbow_is_every_extension_of_dqn():
    preset = presets.find("Rainbow", "CartPole-v1", envs.make("CartPole-v1"))
    assert preset.agent == {"head": "categorical", "noisy": True}
    assert preset.network["dueling"]
    assert preset.replay["prioritized"]
    assert presets.hparams(preset).epsilon == 0


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"learning_rate": float("inf")}, "learning_rate must be finite"),
        ({"learning_rate": True}, "learning_rate must be a number, got 'true'"),
        ({"discount": "high"}, "discount must be a number"),
    ],
)
def test_a_hyperparameter_of_another_kind_is_rejected(hparams, message):
    preset = presets.ALGORITHMS["ppo"].presets["any"]._replace(hparams=hparams)
    with pytest.raises(ValueError, match=message):
        presets.hparams(preset)


def test_infinity_switches_some_hyperparameters_off():
    preset = presets.ALGORITHMS["ppo"].presets["any"]
    off = dict.fromkeys(("anneal_updates", "target_kl", "value_clip_epsilon", "max_grad_norm"), float("inf"))
    assert presets.hparams(preset._replace(hparams=off)).max_grad_norm == float("inf")


def test_an_object_is_found_by_its_module_and_name():
    assert references.load("os.path:join") is os.path.join
    assert references.loaded({"a": "math:pi", "b": "relu"}) == {"a": math.pi, "b": "relu"}
    with pytest.raises(ValueError, match="did you mean 'sqrt'"):
        references.load("math:sqr")
    with pytest.raises(ValueError, match="cannot import no_such_module"):
        references.load("no_such_module:f")
    for text in ("math", "math:", ":sqrt", "math:sqrt:x", "math.py"):
        with pytest.raises(ValueError, match=f"'{text}' is not of the form module:function"):
            references.load(text)


def test_a_module_of_the_user_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "half_written.py").write_text("def f(:")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="importing half_written raised SyntaxError"):
        references.load("half_written:f")


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_several_agents_share_the_policy_of_one(name):
    spaces = Dict({"agents": Box(-1.0, 1.0, (3, 4))}), MultiDiscrete((5, 5, 5))
    env = fake_env(*spaces)
    preset = presets.find(name, "jaxmarl/any", env)
    agent = presets.build(preset, env)
    obs = {"agents": jnp.zeros((3, 4)), "rewards": jnp.zeros(3), "alive": jnp.ones(3, bool)}
    hparams = cast(presets.hparams(preset))
    state = jax.eval_shape(lambda key: agent.init(key, hparams, obs, 2), jax.random.key(0))
    action, _ = jax.eval_shape(lambda state: agent.act(None, state, obs), state)
    assert action.shape == (3,)


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "MountainCarContinuous-v0", "another"])
def test_ddpg_makes_one_step_of_critic_and_actor_per_step_of_its_environments(env_id):
    preset = presets.find("ddpg", env_id, envs.probe(continuous=True))
    assert (preset.rollout_length, preset.agent["policy_delay"], preset.replay["batch_size"]) == (1, 1, 256)
