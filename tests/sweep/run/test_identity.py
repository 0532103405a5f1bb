"""A search is resumed as itself or refused by the name of what differs; nothing that may change is refused."""

import functools
import inspect
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandits import Hparams, make_agent, make_env
from cutting import Cut, cut_after

import purerl
from purerl import loops, sweep
from purerl.pbt import pbt
from purerl.sweep.run import fingerprint, identity, journal
from purerl.sweep.run.executors import local
from purerl.sweep.run.programs import MemberData, Program

AGENT, PLAIN = make_agent(), make_env()


class World(NamedTuple):
    """Parameters of the environment."""

    scale: float = 1.0
    shift: float = 0.0


def step(key, state, action, env_params=None):
    out = PLAIN.step(key, state, action)
    return out._replace(reward=env_params.scale * out.reward + env_params.shift)


ENV = PLAIN._replace(step=step)
SPACE = {"learning_rate": sweep.log_uniform(1e-2, 1.0), "env.scale": sweep.uniform(0.5, 2.0)}
STATIC = {"num_envs": sweep.choice([2, 3])}
CALL = {
    "key": jax.random.key(5), "agent": AGENT, "env": ENV, "hparams": Hparams(), "space": SPACE, "static": STATIC,
    "num_trials": 8, "num_seeds": 2, "num_updates": 24, "num_envs": 2, "rollout_length": 4, "eval_episodes": 4,
    "eval_max_steps": 4, "num_chunks": 4, "env_params": World(), "schedule": sweep.successive_halving(2, 2),
    "objective": sweep.of_curve(lambda returns, steps: returns.max()), "confirm": 1,
}  # fmt: skip


def begin(directory, **changes):
    """A search that ends before anything is compiled."""
    with pytest.raises(Cut):
        sweep.search(**CALL | changes, directory=directory, progress=cut_after(0))


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    directory = tmp_path_factory.mktemp("search") / "begun"
    begin(directory)
    return directory


# Every argument of a search that decides its numbers, with another value and what the refusal says.
DECIDES = {
    "key": (jax.random.key(6), "another key"),
    "agent": (AGENT._replace(act=lambda key, state, obs: (state.theta + 1, ())), "another program"),
    "env": (ENV._replace(step=lambda *args: step(*args)._replace(reward=jnp.float32(1.0))), "another program"),
    "hparams": (Hparams(target=0.4), "another hyperparameter target"),
    "space": (SPACE | {"learning_rate": sweep.log_uniform(1e-2, 0.9)}, "another hyperparameter learning_rate"),
    "num_envs": (3, "num_envs = 2, not 3"),
    "rollout_length": (8, "rollout_length = 4, not 8"),
    "schedule": (sweep.successive_halving(2, 3), "brackets = "),
    "method": ("sobol", "another hyperparameter learning_rate"),
    "static": ({"num_envs": sweep.choice([2, 4])}, "static choices = "),
    "env_params": (World(shift=0.1), "another parameter of the environment shift"),
    "constraint": (lambda settings: settings["learning_rate"] < 0.5, "another hyperparameter learning_rate"),
    "rollout": (loops.rollout_episodes, "another program"),
    "block_size": (4, "block_size = None, not 4"),
    "num_chunks": (8, "num_chunks = 4, not 8"),
    "eval_episodes": (8, "eval_episodes = 4, not 8"),
    "eval_max_steps": (8, "eval_max_steps = 4, not 8"),
    "evaluate_in": ("own", "evaluate_in = 'reference', not 'own'"),
    "objective": (sweep.of_curve(lambda returns, steps: returns.min()), "another function of the objective"),
    "pareto": (("steps:3",), "pareto = None"),
    "ties": (("area",), "ties = "),
    "threshold": (3.0, "threshold = None, not 3.0"),
    "curve": ("episode_length", "curve = 'episode_return', not 'episode_length'"),
    "stop_clearly_worse": (True, "stop_clearly_worse = False, not True"),
    "confirm": (2, r"confirm = \[1, 8\], not \[2, 8\]"),
    "confirm_seeds": (4, r"confirm = \[1, 8\], not \[1, 4\]"),
    "keep": (None, "keep = 10, not None"),
}
# Those that may change, with a value that a resumed search can have.
MAY_CHANGE = {
    "num_trials": 12, "num_seeds": 3, "memory_limit": 1e9, "until": 1e9, "max_steps": 1e9, "max_seconds": 1e9,
    "save_seconds": 1.0, "executor": functools.partial(local), "callbacks": (lambda chunk: None,),
}  # fmt: skip
# `num_updates` may grow when the search has ended, see test_extension.py; the others are not of the search itself.
APART = {"num_updates", "directory", "resume", "replay", "progress"}


def test_every_argument_of_a_search_is_one_of_these():
    assert {*DECIDES, *MAY_CHANGE, *APART} == set(inspect.signature(sweep.search).parameters)


@pytest.mark.parametrize("name", DECIDES)
def test_another_argument_is_refused_by_its_name(begun, name):
    value, message = DECIDES[name]
    before = (begun / "journal").read_bytes()
    with pytest.raises(ValueError, match=f"begun was begun with {message}"):
        sweep.search(**CALL | {name: value}, directory=begun, resume=True)
    assert (begun / "journal").read_bytes() == before


@pytest.mark.parametrize("name", [None, *MAY_CHANGE])
def test_what_may_change_is_not_refused(tmp_path, name):
    begin(tmp_path / "begun")
    begin(tmp_path / "begun", resume=True, **({} if name is None else {name: MAY_CHANGE[name]}))


def test_the_environment_of_the_evaluation_is_part_of_a_search_in_which_no_trial_trains_in_it(begun):
    """The scale of every trial is searched, so only the evaluation has this one."""
    with pytest.raises(ValueError, match="environment of the evaluation scale"):
        sweep.search(**CALL | {"env_params": World(scale=3.0)}, directory=begun, resume=True)


def test_asha_is_not_resumed_as_halving_with_the_same_rungs(tmp_path):
    """7 trials in rungs of 7 and 4 by η = 2; ASHA has the same brackets and other decisions."""
    begin(tmp_path, schedule=sweep.asha(2, 2))
    with pytest.raises(ValueError, match="begun with asha = 2, not None"):
        sweep.search(**CALL, directory=tmp_path, resume=True)


@pytest.mark.parametrize("package", [purerl, jax, jax.lib])
def test_another_version_is_refused_by_its_name(begun, monkeypatch, package):
    import jaxlib

    package, name = (jaxlib, "jaxlib") if package is jax.lib else (package, package.__name__)
    monkeypatch.setattr(package, "__version__", "0.0.1")
    with pytest.raises(ValueError, match=f"begun with version of {name} = '.*', not '0.0.1'"):
        sweep.search(**CALL, directory=begun, resume=True)


@pytest.mark.parametrize(
    ("setting", "value"), [("jax_default_matmul_precision", "bfloat16"), ("jax_threefry_partitionable", None)]
)
def test_another_precision_or_other_random_numbers_are_refused_by_name(begun, setting, value):
    before = getattr(jax.config, setting)
    try:
        jax.config.update(setting, not before if value is None else value)
        with pytest.raises(ValueError, match=f"begun with {setting} = "):
            sweep.search(**CALL, directory=begun, resume=True)
    finally:
        jax.config.update(setting, before)


def test_networks_and_static_options_of_an_agent_are_part_of_its_program():
    env = purerl.envs.make("CartPole-v1")

    def program(activation="tanh", hidden=(4,), **options):
        agent = purerl.ppo(purerl.networks.actor_critic(env, hidden, activation), num_epochs=1, **options)
        hparams = jax.tree.map(lambda x: np.float32([x]), purerl.PPOHparams())
        data = MemberData(np.zeros((1, 2), np.uint32), hparams, None)
        return fingerprint.fingerprint(Program(agent, env, 2, 4, loops.rollout, 1, 4), data)

    first = program()
    assert program() == first
    assert program(hidden=(8,))["state"] != first["state"]
    for other in (program("relu"), program(normalize_advantage=False)):
        assert other["state"] == first["state"]
        assert other["program"] != first["program"]


# --- The record -------------------------------------------------------------------------------------------------------


def refused(before, now, tmp_path):
    with journal.opened(tmp_path, resume=False) as log:
        identity.check(log, before)
    with journal.opened(tmp_path, resume=True) as log, pytest.raises(ValueError, match="was begun with") as caught:
        identity.check(log, now)
    return str(caught.value)


def test_the_first_difference_is_named(tmp_path):
    assert "was begun with b = [1], not [2]: resume" in refused({"a": 1, "b": [1]}, {"a": 1, "b": (2,)}, tmp_path)


def test_a_name_that_came_or_went_is_a_difference(tmp_path):
    assert "b = None, not 2" in refused({"a": 1}, {"a": 1, "b": 2}, tmp_path / "came")
    assert "b = 2, not None" in refused({"a": 1, "b": 2}, {"a": 1}, tmp_path / "went")


def test_digests_are_not_shown(tmp_path):
    before, now = (identity.parts_of("hyperparameter", Hparams(target=value)) for value in (0.1, 0.2))
    assert "was begun with another hyperparameter target: resume" in refused(before, now, tmp_path)


def test_a_journal_of_an_earlier_version_is_compared_by_the_names_that_it_has(tmp_path):
    with journal.opened(tmp_path, resume=False) as log:
        log.add("plan", plan={"num_envs": 2})
        identity.check(log, {"num_envs": 2, "version of jax": "1"})
        with pytest.raises(ValueError, match="num_envs = 2, not 3"):
            identity.check(log, {"num_envs": 3, "version of jax": "1"})


def test_a_search_of_an_earlier_version_is_resumed(begun, tmp_path):
    """Its journal has the old names and no digest."""
    import hashlib

    old = {"num_envs", "rollout_length", "eval_episodes", "keep", "brackets", "trials", "num_seeds", "objective"}
    with (tmp_path / "journal").open("wb") as file:
        for line in (begun / "journal").read_bytes().splitlines():
            event = json.loads(line.split(b" ", 1)[1])
            if event["kind"] == "plan":
                event = {"kind": "plan", "name": "", "plan": {name: event["plan"][name] for name in sorted(old)}}
            text = json.dumps(event, separators=(",", ":")).encode()
            file.write(hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n")
    with pytest.raises(ValueError, match="another trials"):
        sweep.search(**CALL | {"key": jax.random.key(6)}, directory=tmp_path, resume=True)
    begin(tmp_path, resume=True)


def test_functions_are_told_apart_by_source_and_by_what_they_close_over():
    def above(bound):
        return lambda returns, steps: float((returns > bound).sum())

    assert identity.of_function(above(1.0)) == identity.of_function(above(1.0))
    assert identity.of_function(above(1.0)) != identity.of_function(above(2.0))
    assert identity.of_function(functools.partial(min, 1)) != identity.of_function(functools.partial(min, 2))
    typed = [eval(f"lambda returns, steps: returns.{name}()") for name in ("max", "min", "max")]
    assert identity.of_function(typed[0]) != identity.of_function(typed[1])
    assert identity.of_function(typed[0]) == identity.of_function(typed[2])


def test_a_function_that_calls_itself_has_a_digest():
    def down(count):
        return down(count - 1) if count else 0

    assert len(identity.of_function(down)) == 64


# --- Populations ------------------------------------------------------------------------------------------------------

POPULATION = {
    "key": jax.random.key(5), "agent": AGENT, "env": ENV, "hparams": Hparams(), "env_params": World(),
    "space": {"learning_rate": sweep.log_uniform(1e-2, 1.0)}, "population_size": 4, "num_rounds": 2,
    "updates_per_round": 2, "num_envs": 2, "rollout_length": 4, "eval_episodes": 2, "eval_max_steps": 4,
}  # fmt: skip
OF_POPULATIONS = {
    "key": (jax.random.key(6), "another key"),
    "agent": (DECIDES["agent"][0], "another program"),
    "env": (DECIDES["env"][0], "another program"),
    "hparams": (Hparams(target=0.4), "another hyperparameter target"),
    "space": ({"learning_rate": sweep.log_uniform(1e-2, 0.9)}, "space = "),
    "population_size": (5, "population_size = 4, not 5"),
    "num_rounds": (3, "num_rounds = 2, not 3"),
    "updates_per_round": (3, "updates = 2, not 3"),
    "num_envs": (3, "num_envs = 2, not 3"),
    "rollout_length": (8, "rollout_length = 4, not 8"),
    "env_params": (World(shift=0.1), "another parameter of the environment shift"),
    "rollout": (loops.rollout_episodes, "another program"),
    "exploit_fraction": (0.5, "num_replaced = 1, not 2"),
    "resample_probability": (0.5, "resample_probability = 0.25, not 0.5"),
    "perturb_factors": ((0.5, 2.0), "factors = "),
    "explore": ("pb2", "explore = 'perturb', not 'pb2'"),
    "num_elites": (1, "num_elites = None, not 1"),
    "initial": (Hparams(*(np.array([value]) for value in Hparams())), "another initial hyperparameter|= None"),
    "eval_episodes": (4, "eval_episodes = 2, not 4"),
    "eval_max_steps": (8, "eval_max_steps = 4, not 8"),
}


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    """A run that has not begun its first round."""
    directory = tmp_path_factory.mktemp("population") / "begun"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("purerl.pbt.run.start", lambda *_, **__: cut_after(0)(None))
        with pytest.raises(Cut):
            pbt(**POPULATION, directory=directory)
    return directory


def test_every_argument_of_a_population_is_one_of_these():
    apart = {"directory", "resume", "progress", "rounds_per_chunk", "lineage"}  # a lineage: see test_pbt_resume.py
    assert {*OF_POPULATIONS, *apart} == set(inspect.signature(pbt).parameters)


@pytest.mark.parametrize("name", OF_POPULATIONS)
def test_another_argument_of_a_population_is_refused_by_its_name(population, name):
    value, message = OF_POPULATIONS[name]
    with pytest.raises(ValueError, match=f"was begun with .*({message})"):
        pbt(**POPULATION | {name: value}, directory=population, resume=True)
