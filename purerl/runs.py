"""Run directories: their names, their `config.json`, and the policies saved in them.

runs/<name>/config.json      what was run: all that is needed to resume the run or to play its policy; under a checksum
runs/<name>/metrics.csv      one row for each part of the run (and seed)
runs/<name>/checkpoints/     the whole state of the run, the last few
runs/<name>/policy/          the trained agent; `load_policy` reads it
runs/<name>/best/            the one with the best evaluation during training, if there were any
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax

import purerl
from purerl import checkpoint, files, loops, presets
from purerl.hparams import cast, suggestion
from purerl.presets.tasks import Task, first_observation, task_from_json
from purerl.runtime import install_hint
from purerl.types import Agent, Env, Key, State

DEFAULT_DIRECTORY = "runs"
_CONFIG_FORMAT = 1
HUB = "hf://"
# Events of a search's journal that precede its results.
_PREPARATIONS = (b"plan", b"size", b"width", b"compiled", b"limit", b"fingerprint", b"fastest", b"split")


class RunError(ValueError):
    """A run directory that does not exist, exists already, or is not what was asked for."""


# --- Directories ------------------------------------------------------------------------------------------------------


def find(name: str | os.PathLike[str], runs_dir: str | os.PathLike[str] = DEFAULT_DIRECTORY) -> Path:
    """The directory of a run, given its name or a path.

    Args:
      name: the name of a run in `runs_dir`, or the path of its directory.
      runs_dir: directory of all runs.

    Raises:
      RunError: no such run; the message suggests the nearest names.
    """
    for path in (Path(name), Path(runs_dir) / name):
        if (path / "config.json").is_file():
            return path
    known = sorted(config.parent.name for config in Path(runs_dir).glob("*/config.json"))
    hint = suggestion(Path(name).name, known[-10:]) if known else f"; {runs_dir}/ holds no runs"
    what = "is not a run directory: it has no config.json" if Path(name).is_dir() else "is not the name of a run"
    raise RunError(f"{name} {what}{hint}")


def quoted(path: str | os.PathLike[str]) -> str:
    """A path as it is typed in a shell: in quotes if it has blanks."""
    return shlex.quote(os.fspath(path))


def named(name: str, runs_dir: str | os.PathLike[str] = DEFAULT_DIRECTORY) -> Path:
    """The directory that a new run of this name gets.

    Raises:
      RunError: the name is not a plain directory name.
    """
    if name in ("", ".", "..") or os.sep in name:
        raise RunError(f"--name {name!r} must be a plain directory name; --runs-dir sets where it is created")
    return Path(runs_dir) / name


def check_free(directory: Path) -> None:
    """Reject the directory of another run; one that is empty is free.

    Raises:
      RunError: the directory exists.
    """
    if _is_free(directory):
        return
    if (directory / "config.json").is_file():
        way = f"choose another --name, or continue it with --resume {directory.name}"
    else:
        way = "it is not a run directory; choose another --name, or move it away"
    raise RunError(f"{directory} already exists: {way}")


def _is_free(directory: Path) -> bool:
    if directory.is_dir() and not directory.is_symlink():
        return not any(directory.iterdir())
    return not os.path.lexists(directory)


def create(directory: Path, config: Mapping[str, Any]) -> Path:
    """Create the directory of a run with its `config.json`, to which the versions of the packages are added.

    The directory appears together with the file, so a run that is killed at its start leaves its name free.

    Raises:
      RunError: the directory exists.
    """
    check_free(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    files.sweep_leftovers(directory.parent, directory.name)
    versions = {"purerl": purerl.__version__} | {name: metadata.version(name) for name in ("jax", "jaxlib", "gymnax")}
    with files.temporary_sibling(directory) as temporary:
        write_config(temporary, {**config, "versions": versions})
        try:
            os.rename(temporary, directory)  # replaces an empty directory, and no other
        except OSError:
            check_free(directory)  # another process may have been faster
            raise
        files.flush(directory.parent)
    return directory


def create_named(name: str | None, default: str, runs_dir: str | os.PathLike[str], config: Mapping[str, Any]) -> Path:
    """The directory of a new run: of the name, or of the default one with the first number that makes it free.

    Raises:
      RunError: the name is taken, or is not a plain directory name.
    """
    if name is not None:
        return create(named(name, runs_dir), config)
    for directory in (Path(runs_dir) / each for each in _numbered(default)):
        with contextlib.suppress(RunError):  # taken, perhaps at this moment by another process
            if not os.path.lexists(directory):
                return create(directory, config)
    raise AssertionError("there is always another number")


def _numbered(default: str) -> Iterator[str]:
    return itertools.chain([default], (f"{default}-{number}" for number in itertools.count(2)))


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a run for this process alone; the lock ends with the process.

    Raises:
      RunError: another process holds it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(directory / ".lock"))
        except BlockingIOError as error:
            raise RunError(f"another process, number {error.args[0]}, is working on {directory}") from None
        yield


@contextlib.contextmanager
def removed_if_it_fails(directory: Path, new: bool) -> Iterator[None]:
    """Remove the directory of a new run if the body raises before it has saved a checkpoint or a result."""
    try:
        yield
    except BaseException:
        if new and not has_progress(directory):
            shutil.rmtree(directory, ignore_errors=True)
        raise


def has_progress(directory: Path) -> bool:
    """Whether a run has saved anything that could be resumed: a checkpoint, or results of a search."""
    journal = directory / "journal"
    events = journal.read_bytes().splitlines() if journal.is_file() else []
    results = [event for event in events if not any(b'"kind":"%s"' % kind in event[:200] for kind in _PREPARATIONS)]
    saved = ("population/0*", "blocks/*.partial/0*", "batch*/journal")  # of populations, of searches, and of batches
    found = any(any(directory.glob(pattern)) for pattern in saved)
    return bool(results or checkpoint.steps(directory / "checkpoints") or found)


def read_config(directory: Path) -> dict[str, Any]:
    """The `config.json` of a run.

    Raises:
      RunError: there is none, or it is damaged.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise RunError(f"{directory} is not a run directory: it has no config.json")
    try:
        config = files.unsealed(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is damaged or was changed by hand: {error}") from error
    if config.get("format", _CONFIG_FORMAT) != _CONFIG_FORMAT:
        raise RunError(f"{path} has format {config['format']!r}; this version of purerl reads format {_CONFIG_FORMAT}")
    return config


def write_config(directory: Path, config: Mapping[str, Any]) -> None:
    """Write the `config.json` of a run; after a crash at any moment it is the new one or the old one."""
    files.write_whole(directory / "config.json", files.sealed({"format": _CONFIG_FORMAT, **config}))


def write_json(path: Path, data: Any) -> None:
    """Write JSON; after a crash at any moment the file is the new one or the old one."""
    files.write_whole(path, json.dumps(data, indent=1) + "\n")


# --- Policies ---------------------------------------------------------------------------------------------------------


class Policy(NamedTuple):
    """A trained agent, ready to act: `policy.act(obs)`.

    Attributes:
      act: `(obs, memory=None, *, key=None) -> action`, as `loops.deploy` makes it: observations are normalised as in
        training, the action is within its bounds, and greedy without a key. With memory it is `(action, memory)`.
      directory: of the run, or of the saved policy if it lies elsewhere.
      task: which agent on which environment.
      agent, env: built from the task.
      state: the trained agent's state.
      details: what was saved with the policy, such as the returns of its evaluation.
    """

    act: loops.Policy
    directory: Path
    task: Task
    agent: Agent
    env: Env
    state: State
    details: dict[str, Any]


def save_policy(directory: Path, task: Task, state: State, details: Mapping[str, Any], name: str = "policy") -> None:
    """Save an agent's state with all that is needed to build the agent again, in place of an older policy."""
    checkpoint.save(directory / name, state, {"task": task.to_json(), **details}, overwrite=True)


def load_policy(name: str | os.PathLike[str], runs_dir: str | os.PathLike[str] = DEFAULT_DIRECTORY) -> Policy:
    """The policy of a run.

    Args:
      name: name or directory of the run, or a saved policy, such as RUN/best.
      runs_dir: directory of all runs.

    Raises:
      RunError: no policy is saved there.
      CheckpointError: it is damaged.
    """
    alone = [path for path in (Path(name), Path(runs_dir) / name) if _is_policy(path)]
    path = alone[0] if alone else _policy_of(name, runs_dir)
    details = checkpoint.read_metadata(path)
    if "task" not in details:
        raise RunError(f"{path} is a checkpoint, but not a saved policy")
    task = task_from_json(details["task"])
    env = task.make_env()
    agent = presets.build(task.preset, env)
    like = jax.eval_shape(lambda key: _fresh_state(key, task, agent, env), jax.random.key(0))
    run = path.parent if path.name in ("policy", "best") else path
    state = checkpoint.restore(path, like)
    return Policy(loops.deploy(agent, env, state), run, task, agent, env, state, details)


def load(name: str | os.PathLike[str], runs_dir: str | os.PathLike[str] = DEFAULT_DIRECTORY) -> Policy:
    """As `load_policy`: `purerl.load("runs/first").act(obs)`; "hf://user/name" is downloaded from the Hugging Face Hub.

    Raises:
      RunError: no policy is saved there.
      CheckpointError: it is damaged.
      ModuleNotFoundError: a policy on the Hub without huggingface_hub; the message says how to install it.
    """
    if str(name).startswith(HUB):
        return load_policy(_downloaded(str(name).removeprefix(HUB)))
    return load_policy(name, runs_dir)


def _downloaded(repository: str) -> Path:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ModuleNotFoundError(f"{HUB}{repository} needs huggingface_hub: {install_hint('hub')}")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository))


def _is_policy(path: Path) -> bool:
    return (path / checkpoint.MANIFEST).is_file()


def _policy_of(name: str | os.PathLike[str], runs_dir: str | os.PathLike[str]) -> Path:
    for path in (Path(name), Path(runs_dir) / name):
        if _is_policy(path / "policy"):
            return path / "policy"
    directory = find(name, runs_dir)
    why = ""
    if has_progress(directory):
        command = read_config(directory).get("command")
        why = f": it has not finished. Resume it with: purerl {command} --resume {quoted(directory)}"
    raise RunError(f"{directory} has no saved policy{why}")


def _fresh_state(key: Key, task: Task, agent: Agent, env: Env) -> State:
    return agent.init(key, cast(presets.hparams(task.preset)), first_observation(env, key), task.preset.num_envs)
