"""The manifest of a checkpoint: SHA-256 sums of its files, as `sha256sum` prints them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from purerl import files
from purerl.checkpoint.errors import CheckpointError

MANIFEST = "SHA256SUMS"


def digests_of(directory: Path) -> dict[str, str]:
    """SHA-256 of every file under a directory except the manifest, by relative path.

    Raises:
      CheckpointError: something under it is neither a file nor a directory, such as a symbolic link.
    """
    return {name: files.digest_of(directory / name) for name in sorted(_names(directory)) if name != MANIFEST}


def _names(directory: Path, prefix: str = "") -> Iterator[str]:
    """Relative paths of the files under a directory. Links are never followed."""
    for entry in os.scandir(directory / prefix):
        name = prefix + entry.name
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from _names(directory, name + "/")
        elif stat.S_ISREG(mode):
            yield name
        else:
            raise CheckpointError(f"{directory}: {name} is neither a file nor a directory")


def text_of(digests: dict[str, str]) -> str:
    """The manifest, one line per file, sorted by name.

    Examples:
      >>> text_of({"b": "22", "a": "11"})
      '11  a\\n22  b\\n'
    """
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def parse(written: bytes) -> dict[str, str]:
    """The sums in a manifest, by relative path, of whatever lines it has. Nothing says that they are right.

    Examples:
      >>> parse(b"11  a\\n22  b\\n")
      {'a': '11', 'b': '22'}
    """
    pairs = [line.partition("  ") for line in written.decode("utf-8", errors="replace").split("\n") if line]
    return {name: digest for digest, _, name in pairs}


def verify(directory: Path) -> None:
    """Check every file of a checkpoint against its manifest.

    Raises:
      CheckpointError: the manifest or a file is missing, a file differs (it is named), or does not belong there.
    """
    if not (directory / MANIFEST).is_file():
        raise CheckpointError(f"{directory} is not a complete checkpoint: it has no {MANIFEST}")
    actual = digests_of(directory)  # refuses a manifest that is a link, too
    written = (directory / MANIFEST).read_bytes()
    if written != text_of(actual).encode():
        raise CheckpointError(f"{directory} is damaged: {_damage(written, actual)}")


def _damage(written: bytes, actual: dict[str, str]) -> str:
    """The files because of which a manifest is not, byte for byte, that of the files present."""
    expected = parse(written)
    changed = sorted(name for name in expected.keys() & actual.keys() if expected[name] != actual[name])
    missing = sorted(expected.keys() - actual.keys())
    extra = sorted(actual.keys() - expected.keys())
    faults = [f"{name} does not match its SHA-256 in {MANIFEST}" for name in changed]
    faults += [f"{name} is listed in {MANIFEST} and missing" for name in missing]
    faults += [f"{name} is not listed in {MANIFEST}" for name in extra]
    return "; ".join(faults[:3]) or f"{MANIFEST} itself has been changed"
