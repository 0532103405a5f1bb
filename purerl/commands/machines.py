"""One command in several processes: `--distributed`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl import distributed, runs
from purerl.commands import console
from purerl.commands.options import Output, UsageError


@contextlib.contextmanager
def joined(text: str | None) -> Iterator[None]:
    """Run the body in step with the other processes, of which only the main one prints.

    A mistake in the options is the same in all processes, and each exits by itself. Any other error ends its process at
    once, since the others wait for it; they then end by themselves, see `distributed.initialize`.

    Args:
      text: `auto`, or `HOST:PORT,N,I`; None: there is one process.

    Raises:
      UsageError: it is neither, or no cluster is found.
    """
    if text is None:
        yield
        return
    address = _parse(text)
    try:
        distributed.initialize(*address)
    except (ValueError, RuntimeError) as error:
        if not address:
            raise UsageError(
                "--distributed auto found no cluster (Slurm, Open MPI, Kubernetes or a TPU pod): start the command "
                "with srun or mpirun, or give HOST:PORT,N,I"
            ) from error
        raise UsageError(f"--distributed {text}: {error}") from error
    with contextlib.ExitStack() as stack:
        if not distributed.is_main():
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            yield
            distributed.wait_for_all()  # the main one may still evaluate and draw
        except (UsageError, runs.RunError):
            raise
        except KeyboardInterrupt:
            console.say("interrupted")
            os._exit(130)
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)


def check_free(output: Output) -> None:
    """Reject, in all processes, a name that another run has.

    Raises:
      RunError: the name is taken, or is not a plain directory name.
      UsageError: there are several processes and no name.
    """
    if output.name is None:
        if jax.process_count() > 1:
            raise UsageError("--distributed needs a --name, so that all processes use the same directory")
        return
    directory = runs.named(output.name, output.runs_dir)
    if jax.process_count() == 1:
        runs.check_free(directory)
    elif distributed.from_main(np.array(directory.exists())):
        raise UsageError(f"{directory} already exists: choose another --name")


def create(output: Output, default_name: str, config: Mapping[str, Any]) -> Path:
    """The directory of a new run, created by the main process for all."""
    if distributed.is_main():
        directory = runs.create_named(output.name, default_name, output.runs_dir, config)
    else:  # `check_free` has seen to a name
        directory = runs.named(output.name or default_name, output.runs_dir)
    distributed.wait_for_all()
    return directory


def _parse(text: str) -> tuple[Any, ...]:
    if text == "auto":
        return ()
    address, *numbers = text.split(",")
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and len(numbers) == 2 and all(number.isdecimal() for number in numbers)):
        raise UsageError(f"--distributed {text}: give auto, or HOST:PORT,N,I such as localhost:1234,2,0")
    count, index = map(int, numbers)
    if index >= count:
        raise UsageError(f"--distributed {text}: the processes are numbered from 0 to {count - 1}")
    return address, count, index
