"""What users pass: a wrong value is an error that names it, before anything is compiled."""

import contextlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import purerl
from purerl import checkpoint, datasets, files, logging, rlhf, runs
from purerl.combinators.adaptive_kl import KLPenaltyHparams
from purerl.commands import config_file
from purerl.commands.options import UsageError
from purerl.envs import references
from purerl.hparams import check_hparams
from purerl.loops.chunks import chunk_length
from purerl.presets import tasks
from purerl.rlhf.weights import load_weights, save_weights
from purerl.text import parse_bytes, parse_count

ENV = purerl.envs.probe()
AGENT = purerl.ppo(purerl.networks.actor_critic(ENV, (4,)), num_epochs=1, num_minibatches=1)
SIZES = {"num_updates": 1, "num_envs": 1, "rollout_length": 2}
PPO, KEY = purerl.PPOHparams, jax.random.key(0)


class Own(NamedTuple):
    learning_rate: float = 0.1


def test_infinity_in_a_class_of_ones_own_is_taken():
    purerl.hparams.check_hparams(Own(float("inf")))


class Whole(NamedTuple):
    num_steps: int = 5


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, np.uint32(2**32 - 1)])
def test_an_integer_beyond_int32_is_named(value):
    with pytest.raises(ValueError, match=f"Whole.num_steps = {value} is beyond the range of int32"):
        purerl.hparams.check_hparams(Whole(value))


def test_the_largest_int32_is_taken():
    purerl.hparams.check_hparams(Whole(2**31 - 1))


@pytest.mark.parametrize("params", [{"length": 2**33}, {"length": np.int64(-(2**40))}])
def test_a_parameter_of_an_environment_beyond_int32_is_named(params):
    with pytest.raises(ValueError, match=r"env_params\['length'\] = -?\d+ is beyond the range of int32"):
        purerl.hparams.check_env_params(params)


WRONG_HPARAMS = [
    (PPO(learning_rate=True), TypeError, "learning_rate = True is a bool"),
    (PPO(learning_rate=np.bool_(True)), TypeError, "learning_rate = True is a bool"),
    (PPO(learning_rate="fast"), TypeError, "learning_rate = fast is not a number"),
    (PPO(learning_rate=1j), TypeError, "learning_rate = 1j is not a number"),
    (PPO(learning_rate=float("nan")), ValueError, "learning_rate is NaN"),
    (PPO(learning_rate=float("inf")), ValueError, "learning_rate = inf must be finite"),
    (PPO(learning_rate=-1e-3), ValueError, "learning_rate = -0.001 is outside"),
    (PPO(learning_rate=1e39), ValueError, "learning_rate = 1e[+]39 is beyond the range of float32"),
    (PPO(max_grad_norm=1e300), ValueError, "max_grad_norm = 1e[+]300 is beyond"),
    (PPO(entropy_coef=float("inf")), ValueError, "entropy_coef = inf must be finite"),
    (PPO(discount=1.01), ValueError, "discount = 1.01 is outside"),
    (PPO(gae_lambda=jnp.float32(2)), ValueError, "gae_lambda = 2.0 is outside"),
    (PPO, TypeError, "got the class PPOHparams itself"),
    ("PPOHparams()", TypeError, "got str"),
    ([3e-4], TypeError, "got list"),
    (3e-4, TypeError, "got float"),
    (None, TypeError, "the field '.*', which this agent reads; got NoneType"),
    ({"learning_rate": 3e-4}, TypeError, "the field '.*', which this agent reads; got dict"),
    (purerl.DQNHparams(), TypeError, "the field '.*', which this agent reads; got DQNHparams"),
]


@pytest.mark.parametrize(("hparams", "error", "message"), WRONG_HPARAMS)
def test_wrong_hyperparameters_are_named(hparams, error, message):
    with pytest.raises(error, match=message):
        purerl.train(KEY, AGENT, ENV, hparams, **SIZES)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        (rlhf.RLHFHparams(kl_target=0.0), "RLHFHparams.kl_target = 0.0 is outside"),
        (KLPenaltyHparams(kl_target=0.0), "KLPenaltyHparams.kl_target = 0.0 is outside"),
        (rlhf.LearnerHparams(label_smoothing=0.7), r"LearnerHparams.label_smoothing = 0.7 is outside \[0.0, 0.5\]"),
        (rlhf.LearnerHparams(label_smoothing=-1.0), "LearnerHparams.label_smoothing = -1.0 is outside"),
        (rlhf.LearnerHparams(beta=float("inf")), "LearnerHparams.beta = inf must be finite"),
        (rlhf.RLHFHparams(beta=float("inf")), "RLHFHparams.beta = inf must be finite"),
        (rlhf.LearnerHparams(gamma=float("inf")), "LearnerHparams.gamma = inf must be finite"),
        (rlhf.LearnerHparams(gamma=-0.5), "LearnerHparams.gamma = -0.5 is outside"),
    ],
)
def test_values_that_could_only_give_nan_are_outside_their_range(hparams, message):
    with pytest.raises(ValueError, match=message):
        check_hparams(hparams)


def test_what_means_no_limit_may_be_infinite():
    inf = float("inf")
    check_hparams(PPO(max_grad_norm=inf, target_kl=inf, anneal_updates=inf, value_clip_epsilon=inf, clip_epsilon=inf))


@pytest.mark.parametrize("name", ["num_updates", "num_envs", "rollout_length"])
@pytest.mark.parametrize("size", [0, -1, 1.0, True, "2", None])
def test_wrong_sizes_are_named(name, size):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer"):
        purerl.train(KEY, AGENT, ENV, PPO(), **{**SIZES, name: size})


@pytest.mark.parametrize("key", [0, None, jax.random.PRNGKey(0), jax.random.split(KEY), np.uint32([0, 1])])
def test_wrong_keys_are_named(key):
    with pytest.raises(TypeError, match=r"key must be (a typed|one) key"):
        purerl.train(key, AGENT, ENV, PPO(), **SIZES)


def test_parameters_of_the_environment_that_are_nan_are_named():
    with pytest.raises(ValueError, match=r"env_params\['gravity'\] is NaN"):
        purerl.train(KEY, AGENT, ENV, PPO(), env_params={"mass": 1, "gravity": float("nan")}, **SIZES)


def test_data_without_rows_are_refused():
    agent = purerl.behavior_cloning(purerl.networks.actor_critic(ENV, (4,)))
    data = {"obs": np.zeros((0, 1), np.float32), "action": np.zeros(0, np.int32)}
    with pytest.raises(ValueError, match=r"data\['action'\] is empty|data\['obs'\] is empty"):
        purerl.fit(KEY, agent, data, purerl.CloningHparams(), num_updates=1)


# --- Numbers and files that people type -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["1e30", "1e99", "9" * 400, "1e400", "9007199254740993000", "", "-1", "0", "1.5", "inf"]
)
def test_counts_are_bounded(text):
    with pytest.raises(ValueError, match=r"too large|not a positive whole number"):
        parse_count(text)


@pytest.mark.parametrize("text", ["lots", "9" * 400, "-1", "0", "1e9", "nanGB"])
def test_amounts_of_memory_are_bounded(text):
    with pytest.raises(ValueError, match="not an amount of memory"):
        parse_bytes(text)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=4), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_the_length_of_chunks_is_that_of_a_search_through_all_divisors(ends, num_chunks):
    def slow():
        total = max(ends)
        shorter = [end for end in ends if end != total]
        for common in (math.gcd(*ends), math.gcd(*shorter)):
            even = [n for n in range(1, common + 1) if common % n == 0]
            good = [n for n in even if (num_chunks + 1) // 2 <= total // n <= 2 * num_chunks]
            if not good and shorter and common and total // common <= 4 * num_chunks:
                good = [common]
            if good:
                return min(good, key=lambda n: abs(math.log(total / n / num_chunks)))
        return math.ceil(total / num_chunks)

    assert chunk_length(ends, num_chunks) == slow()


def test_chunks_of_a_run_without_end_are_found_at_once():
    assert chunk_length([2**53], 100) > 2**45


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"num-trials = 3\nnum_trials = 4", "both num-trials and num_trials"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "nested too deeply|not a TOML file"),
        (b"a = '\xff'", "not a TOML file"),
        (b"\x00", "not a TOML file"),
        (b"a = 1979-05-27", "neither text nor a number"),
    ],
)
def test_configuration_files_that_cannot_be_used_say_why(tmp_path, content, message):
    (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        config_file.expand(["--config", str(tmp_path / "c.toml")])


# --- Files of others --------------------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "my_module.py").write_text("import os\nfrom subprocess import run\ndef make(): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("my_module", None)


@pytest.mark.parametrize(
    "reference",
    ["os:system", "subprocess:run", "builtins:exec", "posix:system", "my_module:os.system", "my_module:run",
     "numpy:save", "purerl:files.write_whole", "jax.numpy:save"],
)  # fmt: skip
def test_saved_files_call_no_function_but_the_users(mine, reference):
    preset = {"algorithm": "ppo", "agent": {"policy_loss": reference}}
    for task in (
        {"env": reference, "env_settings": {}, "preset": {}},
        {"env": "a", "env_settings": {}, "preset": preset},
    ):
        with pytest.raises(ValueError, match="is not yours"):
            tasks.task_from_json(task)


@pytest.mark.parametrize("task", [{}, {"env": "a", "preset": []}, {"env": "a", "env_settings": {}, "preset": {"x": 1}}])
def test_a_saved_task_that_is_none_is_refused(task):
    with pytest.raises(ValueError, match="the saved task cannot be read"):
        tasks.task_from_json(task)


def test_functions_of_the_user_and_trusted_ones_are_called(mine, monkeypatch):
    references.check_saved({"env": "my_module:make", "other": ("CartPole-v1", 3)})
    monkeypatch.setenv(references.TRUSTED_VARIABLE, "math,os")
    references.check_saved({"env": "math:sqrt"})


class Tensors(NamedTuple):
    a: jax.Array
    b: jax.Array


TENSORS = Tensors(jnp.arange(6.0).reshape(2, 3), jnp.arange(4, dtype=jnp.int32))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(path, TENSORS)
    return path.read_bytes()


def with_header(raw, change):
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + raw[start:]


@pytest.mark.parametrize(
    "offsets", [[-24, 0], [0, 10**18], [24, 0], [0, 23], [0], [0, 24, 24], "ab", [0.0, 24.0], None, [True, 24]]
)
def test_offsets_outside_the_file_are_refused(weights, tmp_path, offsets):
    (tmp_path / "w").write_bytes(with_header(weights, lambda header: header["a"].update(data_offsets=offsets)))
    with pytest.raises(ValueError, match=r"a is not valid|damaged at a"):
        load_weights(tmp_path / "w", TENSORS)


def no_wrong_load(load, original, changed, errors):
    """Reading a changed file gives the original or one of these errors, never something else."""
    try:
        found = load(changed)
    except errors:
        return
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(original), strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


CHANGES = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 10**6), st.integers(0, 7)),
    st.tuples(st.just("cut"), st.integers(0, 10**6), st.just(0)),
    st.tuples(st.just("insert"), st.integers(0, 10**6), st.integers(0, 255)),
)


def changed(content, change):
    kind, place, number = change
    content = bytearray(content)
    place %= max(1, len(content))
    if kind == "cut":
        return bytes(content[:place])
    if kind == "insert":
        content.insert(place, number)
    else:
        content[place] ^= 1 << number
    return bytes(content)


@given(change=CHANGES)
@settings(max_examples=150, deadline=None)
def test_no_changed_weights_are_loaded(weights, tmp_path_factory, change):
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(changed(weights, change))
    no_wrong_load(lambda _: load_weights(path, TENSORS), TENSORS, change, ValueError)


@given(content=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_other_bytes_are_weights(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        load_weights(path, TENSORS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    directory = checkpoint.save(root / "x", {"a": np.arange(3, dtype=np.int32)}, {"b": [1, 2]})
    return directory, {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@given(change=CHANGES, which=st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_no_changed_checkpoint_is_read(saved, change, which):
    directory, contents = saved
    path = list(contents)[which % len(contents)]
    path.write_bytes(changed(contents[path], change))
    try:
        no_wrong_load(lambda _: checkpoint.read_metadata(directory), {"b": [1, 2]}, change, checkpoint.CheckpointError)
    finally:
        path.write_bytes(contents[path])


LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)


@given(content=st.dictionaries(st.text(max_size=5), LEAF | st.lists(LEAF, max_size=3), max_size=4))
@settings(max_examples=50, deadline=None)
def test_sealed_data_are_read_back(content):
    content.pop("sha256", None)
    assert files.unsealed(files.sealed(content)) == content


@given(text=st.text(max_size=80))
@settings(max_examples=150, deadline=None)
def test_no_other_text_is_a_configuration(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "config.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(runs.RunError):
        assert isinstance(runs.read_config(path.parent), dict)


@given(content=st.binary(max_size=120), table=st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_table_of_any_bytes_can_be_continued(tmp_path_factory, content, table):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"step,x\n" * table + content)
    writer = (logging.csv_writer if len(content) % 2 else logging.jsonl_writer)(path, resume_at=3)
    if table and len(content) % 2:
        writer.write(4, {"x": 1.0})
    writer.close()


@given(text=st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_a_configuration_file_of_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with contextlib.suppress(UsageError):
        config_file.expand(["--config", str(path)])


def test_a_dataset_that_is_none_is_refused(tmp_path):
    checkpoint.save(tmp_path / "x", {"a": 1})
    with pytest.raises(ValueError, match="dataset"):
        datasets.load(tmp_path / "x")


def test_a_cell_of_a_table_is_no_formula(tmp_path):
    writer = logging.csv_writer(tmp_path / "t.csv")
    writer.write(1, {"name": "=HYPERLINK(1)", "number": -1.5})
    writer.close()
    assert (tmp_path / "t.csv").read_text().splitlines()[1] == "1,'=HYPERLINK(1),-1.5"


# --- A full disk ------------------------------------------------------------------------------------------------------

FULL = """
import resource, sys
import numpy as np
from purerl import checkpoint
checkpoint.save_step(sys.argv[1], 1, {"a": np.arange(1000, dtype=np.int32)})
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
noise = np.random.default_rng(0).integers(0, 2**31, 100_000, dtype=np.int32)
try:
    checkpoint.save_step(sys.argv[1], 2, {"a": noise})
except OSError as error:
    print("refused", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
found = checkpoint.find(sys.argv[1])
print(int(found.path.name), int(found.restore({"a": np.zeros(1000, np.int32)})["a"].sum()))
checkpoint.save_step(sys.argv[1], 2, {"a": noise})
print(int(checkpoint.find(sys.argv[1]).path.name))
"""


def test_a_full_disk_is_an_error_that_leaves_the_checkpoint_before(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "c"), "100000"], capture_output=True, text=True, timeout=100,
        env=os.environ | {"PYTHONPATH": str(Path(purerl.__file__).parents[1])}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused, before, after = done.stdout.splitlines()
    assert refused.startswith("refused")
    assert str(tmp_path / "c") in refused
    assert "Traceback" not in done.stderr
    assert (before, after) == ("1 499500", "2")
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [f"{1:012d}", f"{2:012d}"]
