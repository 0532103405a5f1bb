"""The machine that this process runs on, and how JAX is started on it. Importing it costs nothing."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

CACHE_VARIABLE = "PURERL_COMPILE_CACHE"
THREADS_VARIABLE = "PJRT_NPROC"  # the threads that XLA computes on; it reads it when it makes its first CPU device


def num_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine(cores: int | None = None) -> str:
    """A name for this type of machine. Programs compiled for another type may be slower here, or not run at all.

    Args:
      cores: those that programs are compiled for; None: all that this process may use.
    """
    features = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        wanted = ("flags", "Features", "model name")
        lines = {line for line in info.read_text(errors="replace").splitlines() if line.startswith(wanted)}
        features = "\n".join(sorted(lines))
    digest = hashlib.sha256(features.encode()).hexdigest()[:12]
    return f"{platform.system()}-{platform.machine()}-{cores or num_cores()}cores-{digest}".lower()


def default_cache_root() -> Path:
    """Directory of compiled programs: `PURERL_COMPILE_CACHE`, or `purerl/xla` in the user's cache directory."""
    named = os.environ.get(CACHE_VARIABLE)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(cache) / "purerl" / "xla"


def use_compile_cache(choice: str = "") -> None:
    """Keep compiled programs on disk. Call it before JAX is imported; JAX's own variables win if they are set.

    Args:
      choice: a directory, "off", or "" for `default_cache_root()`.
    """
    root = choice or str(default_cache_root())
    if root.lower() == "off":
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        return
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(root).expanduser() / machine()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def keep_programs_for_one_core() -> None:
    """Keep compiled programs apart from those for all cores. Call it after JAX is imported, before it has started.

    A directory of the user's own stays.
    """
    import jax

    path = Path(jax.config.jax_compilation_cache_dir or "")  # type: ignore[attr-defined]
    if path.name == machine():
        jax.config.update("jax_compilation_cache_dir", str(path.with_name(machine(cores=1))))


def write_programs_whole() -> None:
    """Let JAX write each entry of its compile cache whole, and in place of a damaged one.

    JAX (0.10, 0.11) writes an entry in place and only once. A second process then reads the half that is there, and
    what a killed process leaves is a warning in every later run. A bounded cache (`jax_compilation_cache_max_size`) and
    those of other versions of JAX stay as they are. Call it after JAX is imported.
    """
    import jax

    try:
        from jax._src.lru_cache import LRUCache
    except ImportError:
        return
    if jax.config.jax_compilation_cache_max_size == -1:  # type: ignore[attr-defined]
        LRUCache.put = _put_whole  # type: ignore[method-assign, assignment]


def _put_whole(cache: Any, key: str, value: bytes) -> None:
    """Write an entry. JAX does so once it has compiled a program because the entry is missing or cannot be read."""
    entry = cache.path / f"{key}-cache"
    incomplete = entry.with_name(f".{key}.incomplete-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        incomplete.write_bytes(value)
        incomplete.replace(entry)
    except OSError:
        incomplete.unlink(missing_ok=True)
        raise


def show_all_cores() -> None:
    """Let JAX treat every CPU core as a device. Call it before JAX is imported; the user's own setting wins."""
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(num_cores()))


def use_cpu_only() -> None:
    """Let JAX start without accelerators, also if their plugins are installed. Call it before JAX is imported."""
    os.environ["JAX_PLATFORMS"] = "cpu"


def memory_in_use() -> int | None:
    """Bytes in use on the first accelerator, or by this process on a CPU; None if it cannot be measured."""
    import jax

    used = (jax.local_devices()[0].memory_stats() or {}).get("bytes_in_use")
    statm = Path("/proc/self/statm")
    if used is None and statm.is_file():
        used = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return used


def install_hint(extra: str) -> str:
    """How to install an optional extra, from a checkout or from an index.

    Examples:
      >>> install_hint("ray")
      "pip install '.[ray]' in a checkout, or pip install 'purerl[ray]'"
    """
    return f"pip install '.[{extra}]' in a checkout, or pip install 'purerl[{extra}]'"
