"""One command in several processes: `--distributed`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from purerl.commands import console
from purerl.commands.options import Output, UsageError, usage_errors


@contextlib.contextmanager
def joined(text: str | None) -> Iterator[None]:
    """Run what follows in step with the other processes, of which only the main one prints.

    What is wrong with the options is wrong in all of them, and each leaves by itself. Any other error ends its process
    at once, since the others wait for it; they then end by themselves, see `distributed.initialize`.

    Args:
      text: `auto`, or `HOST:PORT,N,I`; None: there are no others.

    Raises:
      UsageError: it is neither, or no cluster tells who is who.
    """
    if text is None:
        yield
        return
    from purerl import distributed

    with usage_errors():
        distributed.initialize(*_parse(text))
    with contextlib.ExitStack() as stack:
        if not distributed.is_main():
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            yield
        except UsageError:
            raise
        except KeyboardInterrupt:
            console.say("interrupted")
            os._exit(130)
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)


def check_free(output: Output) -> None:
    """Refuse, in all processes alike, a name that another run has.

    Raises:
      UsageError: as `runs.check_free`; or there are several processes and no name.
    """
    import jax
    import numpy as np

    from purerl import distributed
    from purerl.commands import runs

    if jax.process_count() == 1:
        return runs.check_free(output)
    if output.name is None:
        raise UsageError("--distributed needs a --name, so that all processes work in the same directory")
    if distributed.from_main(np.array(runs.directory_of(output).exists())):
        raise UsageError(f"{runs.directory_of(output)} is already there: choose another --name")


def create(output: Output, default_name: str, config: Mapping[str, Any]) -> Path:
    """`runs.create`, by the main process for all."""
    import jax

    from purerl import distributed
    from purerl.commands import runs

    if jax.process_count() == 1:
        return runs.create(output, default_name, config)
    if distributed.is_main():
        runs.create(output, default_name, config)
    distributed.wait_for_all()
    return runs.directory_of(output)


def _parse(text: str) -> tuple[Any, ...]:
    if text == "auto":
        return ()
    address, *numbers = text.split(",")
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and len(numbers) == 2 and all(number.isdecimal() for number in numbers)):
        raise UsageError(f"--distributed {text}: it is auto, or HOST:PORT,N,I such as localhost:1234,2,0")
    count, index = map(int, numbers)
    if index >= count:
        raise UsageError(f"--distributed {text}: the processes are numbered from 0 to {count - 1}")
    return address, count, index
