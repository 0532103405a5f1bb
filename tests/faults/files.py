"""Damaged, malicious and unwritable files: bit flips, truncations, missing, swapped and empty files, full disks.

    python tests/faults/files.py [--flips 1000] [--cuts 200] [--disks 20] [PART ...]
    PART: disks, runs, damage, malicious; all of them if none is named

One run of PPO, one search, one dataset and one file of weights; nothing may load with another content, and a run
resumes from the checkpoint before a damaged one. The process fails if anything is not as it must be.
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
import common
import jax
import numpy as np
from bandits import Hparams, make_agent, make_env

from purerl import checkpoint, datasets, runs, sweep
from purerl.checkpoint import manifest
from purerl.presets.tasks import task_from_json
from purerl.rlhf.weights import load_weights, save_weights

SINGLE = {"a": np.zeros(40, np.int32)}
FAULTS = (checkpoint.CheckpointError, runs.RunError, ValueError, OSError, UserWarning)  # warnings are errors here


def files_of(directory):
    return [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != ".lock"]


def readers(root):
    """Directory, a function that reads all of it, and what it must return, by name."""
    run, weights = root / "run", root / "weights"
    weights.mkdir()
    tree = {"a": np.arange(40, dtype=np.float32), "b": np.arange(3, dtype=np.int32)}
    save_weights(weights / "w.safetensors", tree)
    like = checkpoint.save(root / "single", {"a": np.arange(40, dtype=np.int32)}, {"b": 1})
    env, agent = make_env(), make_agent()
    space = {"learning_rate": sweep.log_uniform(0.1, 1.0)}
    sizes = {"num_trials": 3, "num_updates": 4, "num_envs": 2, "rollout_length": 2, "eval_episodes": 3}
    search = sweep.search(jax.random.key(1), agent, env, Hparams(), space, eval_max_steps=4, keep=2, **sizes)

    def load_search(path):
        result = sweep.load(path, agent, env, Hparams())
        return [result.rows(), result.curve_rows(), result.states]

    return {
        "search": (search.save(root / "search"), load_search),
        "checkpoint": (
            like,
            lambda path: (checkpoint.restore(path, {"a": np.zeros(40, np.int32)}), checkpoint.read_metadata(path)),
        ),
        "dataset": (root / "dataset", lambda path: (datasets.load(path), checkpoint.read_metadata(path)["about"])),
        "configuration": (run / "only", lambda path: runs.read_config(path)),
        "weights": (weights, lambda path: load_weights(path / "w.safetensors", tree)),
    }


def content(value):
    return [np.asarray(leaf).tobytes() if not isinstance(leaf, str) else leaf for leaf in jax.tree.leaves(value)]


def damages(rng, flips, cuts):
    """Kinds of damage, each a function of the files of a directory."""

    def flip(paths):
        path = rng.choice([path for path in paths if path.stat().st_size])
        data = bytearray(path.read_bytes())
        place = rng.randrange(8 * len(data))
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(bytes(data))

    def cut(paths):
        path = rng.choice([path for path in paths if path.stat().st_size])
        path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])

    def missing(paths):
        rng.choice(paths).unlink()

    def empty(paths):
        rng.choice([path for path in paths if path.stat().st_size]).write_bytes(b"")

    def swapped(paths):
        one, other = rng.sample(paths, 2)
        if one.read_bytes() == other.read_bytes():
            return flip(paths)
        data = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(data)

    return {
        "flipped": (flip, flips),
        "cut": (cut, cuts),
        "missing": (missing, 40),
        "empty": (empty, 40),
        "swapped": (swapped, 40),
    }


def damaged(root, rng, flips, cuts):
    wrong, kinds = 0, readers(root)
    warnings.simplefilter("error", UserWarning)
    for name, (directory, read) in kinds.items():
        expected = content(read(directory))
        for kind, (damage, number) in damages(rng, flips // len(kinds), cuts // len(kinds)).items():
            if kind == "swapped" and len(files_of(directory)) < 2:
                continue
            outcomes = {"refused": 0, "loaded as it was": 0, "loaded wrong": 0, "raw error": 0}
            for _ in range(number):
                shutil.rmtree(root / "copy", ignore_errors=True)
                copy = shutil.copytree(directory, root / "copy")
                damage(files_of(copy))
                try:
                    found = content(read(copy))
                    outcomes["loaded as it was" if found == expected else "loaded wrong"] += 1
                except FAULTS:
                    outcomes["refused"] += 1
                except Exception as error:
                    outcomes["raw error"] += 1
                    print(f"raw error: {error!r:.200}")
            wrong += outcomes["loaded wrong"] + outcomes["raw error"]
            print(f"| {name} | {kind} | {' | '.join(map(str, outcomes.values()))} |", flush=True)
    return wrong


# --- Malicious files --------------------------------------------------------------------------------------------------


def rewritten(directory, metadata):
    """The checkpoint with another metadata.json, under a manifest that fits."""
    (directory / "metadata.json").write_text(metadata)
    (directory / manifest.MANIFEST).write_text(manifest.text_of(manifest.digests_of(directory)))


def malicious(root):
    """Files made on purpose; each must be refused within a second, without running or writing anything."""
    good = checkpoint.save(root / "good", {"a": np.arange(40, dtype=np.int32)}, {"b": 1})
    about = json.loads((good / "metadata.json").read_text())
    victim = root / "victim"
    call = f"__import__('os').system('touch {victim}')"
    pickled = b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch victim\x85R."

    def changed(change):
        return lambda d: rewritten(d, change)

    def added(name, data=b"x"):
        def add(directory):
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        return add

    def linked(name, target):
        return lambda directory: (directory / name).symlink_to(target)

    cases = {
        "pickle in an npy": added("arrays/x.npy", pickled),
        "pickle as metadata": added("metadata.json", pickled),
        "pickle as manifest": added(manifest.MANIFEST, pickled),
        "code as metadata": changed(call),
        "nesting of 10^5": changed("[" * 100_000),
        "nesting of 10^6 in an object": changed('{"metadata":' * 1_000_000),
        "a number of 10^6 digits": changed("1" * 1_000_000),
        "metadata of null": changed("null"),
        "another format": changed(json.dumps({**about, "format": 10**30})),
        "format of true": changed(json.dumps({**about, "format": [1]})),
        "leaves as text": changed(json.dumps({**about, "leaves": call})),
        "leaves of other shapes": changed(json.dumps({**about, "leaves": [["['a']", "int32[1000000000000]"]]})),
        "no leaves": changed(json.dumps({**about, "leaves": []})),
        "leaf with another name": changed(json.dumps({**about, "leaves": [["../../a", "int32[40]"]]})),
        "manifest that climbs": added(manifest.MANIFEST, f"{'0' * 64}  ../../etc/passwd\n".encode()),
        "manifest of absolute paths": added(manifest.MANIFEST, f"{'0' * 64}  /etc/passwd\n".encode()),
        "manifest of 20 MB": added(manifest.MANIFEST, b"0" * 20_000_000),
        "an extra file": added("arrays/../extra"),
        "a hidden extra file": added(".hidden"),
        "a name of HTML": added("<script>alert(1)<!-- "),
        "a link to /etc": linked("arrays/etc", "/etc"),
        "a link to /dev/zero": linked("zero", "/dev/zero"),
        "a link to itself": linked("loop", "loop"),
        "a link to the parent": linked("arrays/up", ".."),
        "a pipe": lambda d: os.mkfifo(d / "pipe"),
    }
    wrong = 0
    for name, make in cases.items():
        shutil.rmtree(root / "copy", ignore_errors=True)
        make(shutil.copytree(good, root / "copy"))
        wrong += refused(name, victim, lambda: checkpoint.restore(root / "copy", {"a": np.zeros(40, np.int32)}))
    header = {"a": {"dtype": "F32", "shape": [40], "data_offsets": [0, 160]}}
    tensors = {
        "a header of 2^63 bytes": (2**63 - 1).to_bytes(8, "little") + b"{}",
        "a header beyond the end": (10**6).to_bytes(8, "little") + b"{}",
        "a header of pickle": len(pickled).to_bytes(8, "little") + pickled,
        "a header of deep nesting": (100_000).to_bytes(8, "little") + b"[" * 100_000,
        "overlong offsets": _tensor({"a": {**header["a"], "data_offsets": [0, 10**15]}}),
        "negative offsets": _tensor({"a": {**header["a"], "data_offsets": [-160, 0]}}),
        "a shape of 10^15": _tensor({"a": {**header["a"], "shape": [10**15]}}),
        "a name that climbs": _tensor({"../a": header["a"]}),
    }
    for name, data in tensors.items():
        (root / "w").write_bytes(data)
        wrong += refused(name, victim, lambda: load_weights(root / "w", {"a": np.zeros(40, np.float32)}))
    calls = "os:system posix:system subprocess:call builtins:eval runpy:run_path shutil:rmtree numpy:load"
    for reference in (*calls.split(), "purerl:files.write_whole", "importlib:import_module"):
        task = {"env": reference, "env_settings": {"command": f"touch {victim}"}, "preset": {"algorithm": "ppo"}}
        wrong += refused(f"a policy that names {reference}", victim, lambda task=task: task_from_json(task))
    return wrong


def _tensor(header):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(160)


def refused(name, victim, read):
    """0 if reading fails with a typed error within a second and leaves no trace, otherwise 1."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read()
        outcome = "was read"
    except FAULTS as error:
        outcome = f"{type(error).__name__}: {error!s:.60}"
    except Exception as error:
        outcome = f"RAW {error!r:.80}"
    seconds, grown = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    bad = outcome == "was read" or outcome.startswith("RAW") or seconds > 1 or victim.exists()
    print(f"| {name} | {outcome} | {seconds:.2f} s | {grown / 1024:.0f} MB |{' WRONG' if bad else ''}", flush=True)
    return int(bad)


# --- A run on a full disk, and one whose newest checkpoint is damaged -------------------------------------------------


def full_disks(root, rng, number):
    """Resume copies of a run where writing fails: one line must say so; then, with room again, until the end."""
    stopped(root, "full")
    kinds = {"largest file": limited, "small disk": small_disk, "read-only": read_only, "deleted": deleted}
    wrong, outcomes = 0, []
    for i in range(number):
        name = list(kinds)[i % len(kinds)]
        directory = root / f"full-{i}" / "run"
        code, text, whole = kinds[name](root / "full", directory, rng)
        found = checkpoint.find(directory / "checkpoints") if whole else None
        good = code in (0, 1) and "Traceback" not in text and (not whole or (found is not None and not found.damaged))
        last = text.strip().splitlines()[-1] if text.strip() else ""
        if whole:
            (directory / "log").unlink(missing_ok=True)
            again = common.run(["train", "--resume", directory], directory / "log", cache=root / "cache")
            same = again == 0 and (directory / "digest").read_text() == (root / "straight" / "digest").read_text()
            last += f" | with room again: {'same bits' if same else 'WRONG ' + (directory / 'log').read_text()[-300:]}"
            good = good and same
        subprocess.run(["umount", directory], capture_output=True)
        outcomes.append(code)
        print(f"| {name} | {code} | {last[-300:]} |{'' if good else ' WRONG ' + text[-600:]}", flush=True)
        wrong += not good
    print(f"{outcomes.count(1)} of {number} were refused, {outcomes.count(0)} ended in spite of it")
    return wrong


def begun(directory, **options):
    """A run that is resumed, with its log; it has just saved."""
    log = directory.parent / "log"
    before = checkpoint.latest(directory / "checkpoints")
    process = common.start(["train", "--resume", directory, "--checkpoint-seconds", "0"], log, **options)
    while checkpoint.latest(directory / "checkpoints") == before and not os.waitid(
        os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT
    ):
        time.sleep(0.01)
    return process, log


def limited(run, directory, rng):
    """No file may be larger than a few kB."""
    shutil.copytree(run, directory)
    log, size = directory.parent / "log", rng.randrange(1500, 5000)
    code = common.run(["train", "--resume", directory, "--checkpoint-seconds", "0"], log, largest_file=size)
    return code, log.read_text(), True


def small_disk(run, directory, rng):
    """A disk with a few kB left."""
    directory.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", directory], check=True)
    shutil.copytree(run, directory, dirs_exist_ok=True)
    free = shutil.disk_usage(directory).free
    (directory / "filler").write_bytes(bytes(max(0, free - rng.randrange(9_000))))
    log = directory.parent / "log"
    code = common.run(["train", "--resume", directory, "--checkpoint-seconds", "0"], log)
    (directory / "filler").unlink()
    return code, log.read_text(), True


def read_only(run, directory, rng):
    """The folder of the checkpoints takes no more files."""
    shutil.copytree(run, directory)
    process, log = begun(directory)
    time.sleep(rng.uniform(0, 0.5))
    subprocess.run(["chattr", "+i", directory / "checkpoints"], check=True)
    try:
        code = common.wait(process)
    finally:
        subprocess.run(["chattr", "-i", directory / "checkpoints"], check=True)
    return code, log.read_text(), True


def deleted(run, directory, rng):
    """The folder of the run is deleted while it trains."""
    shutil.copytree(run, directory)
    process, log = begun(directory)
    time.sleep(rng.uniform(0, 0.5))
    shutil.rmtree(directory, ignore_errors=True)
    return common.wait(process), log.read_text(), False


def stopped(root, name):
    """A run that was killed after its second checkpoint."""
    process = common.start(common.arguments("ppo", root, name, "--checkpoint-seconds", "0"), root / f"{name}.log")
    while len(checkpoint.steps(root / name / "checkpoints")) < 2:
        time.sleep(0.02)
    os.kill(process, 9)
    common.wait(process)
    return root / name


def damaged_runs(root, rng, number=10):
    """Damage the newest checkpoint of a stopped run, and resume it."""
    wrong, directory = 0, stopped(root, "damaged")
    straight = (root / "straight" / "digest").read_text()
    for i in range(number):
        copy = shutil.copytree(directory, root / f"damaged-{i}")
        newest, before = checkpoint.steps(copy / "checkpoints")[-1], checkpoint.steps(copy / "checkpoints")[-2]
        path = rng.choice([path for path in files_of(newest) if path.stat().st_size])
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(data))
        (copy / "log").unlink(missing_ok=True)
        code = common.run(["train", "--resume", copy], copy / "log")
        text = (copy / "log").read_text()
        resumed = re.search(r"Resuming from (\S+),", text)
        good = code == 0 and "Passing over" in text and resumed and resumed[1] == str(before)
        good = good and (copy / "digest").read_text() == straight
        wrong += not good
        print(
            f"| {path.relative_to(newest)} | {'resumed from the one before, same bits' if good else text[-300:]} |",
            flush=True,
        )
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["disks", "runs", "damage", "malicious"])
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--disks", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, wrong = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        common.record(root)
        common.run(common.arguments("ppo", root, "straight"), root / "log", cache=root / "cache")
        if "disks" in options.parts:
            wrong += full_disks(root, rng, options.disks)
        if "runs" in options.parts:
            wrong += damaged_runs(root, rng)
        if "damage" in options.parts:
            (root / "run" / "only").mkdir(parents=True)
            shutil.copy(root / "straight" / "config.json", root / "run" / "only")
            wrong += damaged(root, rng, options.flips, options.cuts)
        if "malicious" in options.parts:
            wrong += malicious(root)
    print(f"{wrong} wrong")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
