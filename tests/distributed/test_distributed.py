"""Several devices in one process, and several processes; each program runs in processes of its own.

`python tests/test_distributed.py` ends processes of a running population and writes what came of it.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import checkpoint, distributed, sweep
from purerl.agents.common import minibatches
from purerl.distributed import mesh

PROGRAMS = pathlib.Path(__file__).parents[1] / "processes"
RECORD = PROGRAMS / "result.md"


def python(*arguments, wait=280):
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=wait, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- One process ------------------------------------------------------------------------------------------------------


def test_one_device_calls_the_function_itself():
    assert distributed.num_parts(5) == 1
    np.testing.assert_array_equal(
        distributed.over_devices(lambda x, y: x + y, (jnp.arange(4.0),), (1.0,)), [1, 2, 3, 4]
    )


def test_members_that_wait_their_turn_get_what_they_get_as_many_at_once():
    rows = jax.jit(jax.vmap(lambda key, x, shift: jnp.tanh(jax.random.normal(key, (3, 3)) * x + shift), (0, 0, None)))
    keys, x = jax.random.split(jax.random.key(0), 7), jnp.arange(7.0)
    found = jax.jit(lambda *members: distributed.over_devices(rows, members, (0.5,), at_once=3))(keys, x)
    parts = [rows(keys[i : i + 3], x[i : i + 3], 0.5) for i in (0, 3)] + [rows(keys[6:], x[6:], 0.5)]
    np.testing.assert_array_equal(found, jnp.concatenate(parts))
    assert distributed.over_devices(lambda x: x + len(x), (x,), at_once=7).tolist() == [*range(7, 14)]
    assert distributed.over_devices(lambda x: x + len(x), (x,), at_once=6).tolist() == [*range(4, 11)]  # 4 and 3
    with pytest.raises(ValueError, match="at_once"):
        distributed.over_devices(rows, (keys, x), (0.5,), at_once=0)


def test_a_process_alone_is_the_main_one_and_has_everything():
    assert distributed.is_main()
    tree = {"x": jnp.arange(3), "key": jax.random.key(3), "n": 2.0}
    host = distributed.to_host(tree)
    assert isinstance(host["x"], np.ndarray)
    assert host["n"] == 2.0
    np.testing.assert_array_equal(jax.random.key_data(host["key"]), jax.random.key_data(tree["key"]))


PROGRAM = """
    import sys
    import jax, jax.numpy as jnp, numpy as np
    from purerl import checkpoint, distributed
    from purerl.distributed import devices
    devices.num_cores = lambda: 8
    distributed.use_all_cores()
    assert jax.local_device_count() == 8
    assert [distributed.num_parts(w) for w in (16, 8, 6, 5, 1)] == [8, 8, 6, 5, 1]

    def walk(key, scale, shift):
        step = lambda x, k: (jnp.tanh(x @ x.T) * scale + shift + jax.random.normal(k, (4, 4)), x.sum())
        return jax.lax.scan(step, jnp.eye(4), jax.random.split(key, 5))

    rows = jax.vmap(walk, (0, 0, None))
    keys, scale = jax.random.split(jax.random.key(0), 16), jnp.arange(16.0)
    run = jax.jit(lambda k, s, shift: distributed.over_devices(rows, (k, s), (shift,)))
    spread = run(keys, scale, 0.5)
    assert len(spread[0].sharding.device_set) == 8
    alone = jax.jit(rows)
    parts = [alone(keys[i : i + 2], scale[i : i + 2], 0.5) for i in range(0, 16, 2)]
    together = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    jax.tree.map(np.testing.assert_array_equal, distributed.to_host(spread), distributed.to_host(together))
    text = run.lower(keys, scale, 0.5).compile().as_text()
    assert "all-reduce" not in text and "all-gather" not in text

    saved = checkpoint.save(sys.argv[1] + "/spread", spread)
    four = jax.sharding.NamedSharding(jax.sharding.Mesh(jax.devices()[:4], "x"), jax.sharding.PartitionSpec("x"))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=four), spread)
    on_four = checkpoint.restore(saved, like)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(on_four)} == {4}
    jax.tree.map(np.testing.assert_array_equal, distributed.to_host(on_four), distributed.to_host(spread))
    np.save(sys.argv[1] + "/carry.npy", distributed.to_host(spread)[0])
    print("equal")

    sys.path[:0] = sys.argv[2:]
    from search import small_search
    notes = []
    found = small_search(block_size=32, progress=lambda event: notes.append(event.note))
    np.save(sys.argv[1] + "/returns.npy", found.returns)
    print(*notes)
"""


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """What the program printed, and its folder."""
    folder = tmp_path_factory.mktemp("eight")
    return python("-c", textwrap.dedent(PROGRAM), folder, PROGRAMS), folder


def test_eight_devices_equal_one_at_the_same_local_width_without_talking(eight):
    assert eight[0].startswith("equal\n")
    assert jax.local_device_count() == 1


def test_a_checkpoint_of_eight_devices_is_restored_on_one(eight):
    like = jax.ShapeDtypeStruct((16, 4, 4), jnp.float32), jax.ShapeDtypeStruct((16, 5), jnp.float32)
    restored = checkpoint.restore(eight[1] / "spread", like)
    assert {len(leaf.sharding.device_set) for leaf in restored} == {1}
    np.testing.assert_array_equal(restored[0], np.load(eight[1] / "carry.npy"))


def test_a_search_that_does_not_divide_is_filled_up_for_all_devices_and_says_so(eight, monkeypatch):
    """31 trials on 8 devices are one block of 32, and find what one device finds in blocks of 4."""
    monkeypatch.syspath_prepend(PROGRAMS)
    from search import small_search

    assert "31 agents in 1 block of 32 on 8 devices (1 repeated to fill it)" in eight[0]
    np.testing.assert_array_equal(np.load(eight[1] / "returns.npy"), small_search(block_size=4).returns)


def test_a_search_on_two_devices_finds_what_one_finds_at_the_same_local_width(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(PROGRAMS)
    from search import search

    python(PROGRAMS / "search.py", 0, 1, 0, 2, tmp_path)
    two, alone = sweep.load(tmp_path), search(block_size=4)
    assert two.settings["num_devices"] == 2
    for name in ("seed_returns", "curves", "fresh_returns"):
        np.testing.assert_array_equal(getattr(two, name), getattr(alone, name))


# --- One agent on several devices -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_agent():
    return json.loads(python(PROGRAMS / "one_agent.py"))


def test_one_agent_on_four_devices_learns_what_it_learns_on_one(one_agent):
    assert one_agent["distance"] < 1e-5
    assert one_agent["actors"] < 1e-5
    assert one_agent["loss"] < 1e-5
    assert one_agent["largest step"] > 1e-2


def test_its_work_is_split_and_its_gradients_are_summed(one_agent):
    alone, split = one_agent["flops"]
    assert split < 0.45 * alone  # 0.40: every device makes the keys of all
    assert one_agent["collectives"][0] == []
    assert "all-reduce" in one_agent["collectives"][1]
    assert one_agent["devices"] == [4, 4]
    assert one_agent["actors of a device"] == 4
    assert one_agent["parameters whole"]


def test_a_gradient_step_sums_gradients_and_moves_nothing_else(one_agent):
    assert one_agent["collectives of a gradient step"] == {"all-reduce": 1}


def test_on_accelerators_an_update_has_one_all_reduce_per_gradient_step_and_no_other(one_agent):
    assert one_agent["all-reduces of four gradient steps as on accelerators"] == 4


def test_a_population_moves_nothing_between_devices(one_agent):
    assert one_agent["collectives of a population"] == {}


def test_without_a_mesh_nothing_is_added():
    def pass_over(x):
        def step(total, part, prepared):
            return total + part.sum(), ()

        return minibatches.epochs(jax.random.key(0), step, 0.0, x, num_epochs=1, num_minibatches=2)

    x = jnp.arange(8.0)
    assert mesh.split(x) is x
    assert mesh.whole(x) is x
    assert "sharding_constraint" not in str(jax.make_jaxpr(pass_over)(x))
    with distributed.data_parallel(1):
        assert str(jax.make_jaxpr(pass_over)(x)).count("sharding_constraint") == 4
    assert "sharding_constraint" not in str(jax.make_jaxpr(pass_over)(x))


def test_sizes_that_do_not_divide_are_named():
    abstract = jax.sharding.AbstractMesh((4,), (mesh.AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.sharding.use_abstract_mesh(abstract), pytest.raises(ValueError, match="6 environments or rows"):
        jax.eval_shape(mesh.split, jnp.zeros(6))
    with pytest.raises(ValueError, match="num_devices = 2 is not between 1 and 1"):
        distributed.data_parallel(2)


# --- Several processes ------------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def two_processes(tmp_path, *mode):
    """Two processes of two devices each."""
    port = free_port()
    command = [sys.executable, str(PROGRAMS / "population.py"), str(port), "2"]
    outputs = [(tmp_path / f"output{i}").open("w") for i in range(2)]
    return [
        subprocess.Popen([*command, str(i), "2", tmp_path / "two.npz", *mode], stdout=out, stderr=subprocess.STDOUT)
        for i, out in enumerate(outputs)
    ]


def end(processes):
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_two_processes_equal_one_with_all_their_devices(tmp_path):
    processes = two_processes(tmp_path)
    try:
        codes = [process.wait(280) for process in processes]
    finally:
        end(processes)
    assert codes == [0, 0], (tmp_path / "output0").read_text() + (tmp_path / "output1").read_text()
    python(PROGRAMS / "population.py", 0, 1, 0, 4, tmp_path / "one.npz")
    one, two = np.load(tmp_path / "one.npz"), np.load(tmp_path / "two.npz")
    assert one.files == two.files
    for name in one.files:
        np.testing.assert_array_equal(one[name], two[name])
    parents = one["arr_0"]
    assert (parents // 4 != np.arange(16) // 4).any()  # some copies went from one device to another


LATE_SECONDS = 40  # gloo waits for 30 when it connects devices
POINTS = ("wait_for_all", "from_main", "to_host", "data_parallel", "population")


@pytest.fixture(scope="module")
def late():
    """What each of two processes said and its exit code, by the point to which process 1 came late; all at once."""
    running = {}
    for point in POINTS:
        port = free_port()
        for process in (0, 1):
            command = [sys.executable, PROGRAMS / "late.py", str(port), str(process), point, str(LATE_SECONDS)]
            running[point, process] = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
    try:
        return {name: (process.communicate(timeout=280)[0], process.returncode) for name, process in running.items()}
    finally:
        end(running.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "found"),
    list(zip(POINTS, ("0", "7", "[0, 1, 2, 3]", "6", "(2, 16)"))),
)
def test_a_process_that_comes_later_than_gloo_waits_is_waited_for(late, point, found):
    for process in (0, 1):
        text, code = late[point, process]
        assert code == 0, text
        assert f"found {found}" in text


# What happens: the mode of the program, and the process that gets a signal.
FAULTS = {
    "SIGKILL of process 1": ("forever", 1, signal.SIGKILL),
    "SIGKILL of process 0, the coordinator": ("forever", 0, signal.SIGKILL),
    "SIGSTOP of process 1, as a machine that hangs": ("forever", 1, signal.SIGSTOP),
    "an exception that process 1 does not catch": ("fail", 1, None),
}
SAID = ("another task died", "ends here, and with it the run")


def fault(name, tmp_path):
    """Seconds from the fault to the end of the survivor, its exit code, and what both wrote."""
    mode, dying, sent = FAULTS[name]
    processes = two_processes(tmp_path, mode)
    try:
        wait_until_training(tmp_path / f"output{1 - dying}")
        if sent is None:
            processes[dying].wait(60)
        else:
            processes[dying].send_signal(sent)
        begin = time.monotonic()
        code = processes[1 - dying].wait(60)
        seconds = time.monotonic() - begin
    finally:
        end(processes)
    return seconds, code, [(tmp_path / f"output{i}").read_text() for i in (1 - dying, dying)]


def wait_until_training(path):
    for _ in range(1800):
        if path.read_text().count("training") > 0:
            return
        time.sleep(0.1)
    raise AssertionError(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_the_death_of_a_process_ends_the_run(name, tmp_path):
    seconds, code, (survivor, victim) = fault(name, tmp_path)
    assert seconds < 20
    assert code != 0
    assert any(text in survivor for text in SAID)
    if FAULTS[name][0] == "fail":
        assert "RuntimeError: something is wrong here" in victim
        assert "process 1 of 2 ends here, and with it the run: start all processes again" in victim


def test_the_recorded_faults_are_these():
    text = RECORD.read_text()
    for name in FAULTS:
        assert f"| {name} |" in text


def record(name, folder):
    """One line of the record."""
    seconds, code, (survivor, _) = fault(name, folder)
    said = next(text for text in SAID if text in survivor)
    return f"| {name} | {seconds:.1f} s | {code} | {said} |"


def write_record(lines):
    head = (
        "# Death of a process\n\nTwo processes of two devices train one population (`tests/test_distributed.py`).\n\n"
    )
    table = "| fault | the other process ended after | with code | it said |\n|---|---|---|---|\n"
    RECORD.write_text(head + table + "\n".join(lines) + "\n")


if __name__ == "__main__":
    folders = {name: pathlib.Path(tempfile.mkdtemp()) for name in FAULTS}
    write_record([record(name, folder) for name, folder in folders.items()])
