"""Coverage-guided fuzzing of the readers with atheris (which is not among the test requirements: pip install atheris).

    python tests/faults/fuzz.py TARGET [-max_total_time=60]     TARGET: config, toml, table, weights, journal

A reader may return or raise its own error; anything else ends the process with the input.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["purerl", "tomllib", "json"]):
    from purerl import files, logging
    from purerl.commands import config_file
    from purerl.commands.options import UsageError
    from purerl.rlhf import weights
    from purerl.sweep.run import journal

import numpy as np

from purerl.checkpoint import CheckpointError

FOLDER = Path(tempfile.mkdtemp())
LIKE = {"a": np.arange(4, dtype=np.float32)}


def config(data):
    files.unsealed(data.decode("utf-8", errors="replace"))


def toml(data):
    (FOLDER / "c.toml").write_bytes(data)
    config_file.expand(["--config", str(FOLDER / "c.toml")])


def table(data):
    path = FOLDER / "t.csv"
    path.write_bytes(data[1:])
    (logging.csv_writer if data[:1] < b"\x80" else logging.jsonl_writer)(path, resume_at=5).close()


def tensors(data):
    (FOLDER / "w").write_bytes(data)
    weights.load_weights(FOLDER / "w", LIKE)


def events(data):
    (FOLDER / "journal").write_bytes(data)
    with journal.opened(FOLDER, resume=True):
        pass


TARGETS = {"config": config, "toml": toml, "table": table, "weights": tensors, "journal": events}
ERRORS = (ValueError, UsageError, CheckpointError)


def main():
    target = TARGETS[sys.argv.pop(1)]

    def one(data):
        try:
            target(data)
        except ERRORS:
            return

    weights.save_weights(FOLDER / "seed", LIKE)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
