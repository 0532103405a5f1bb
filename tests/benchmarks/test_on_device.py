"""The script for the day a GPU is at hand: a trace is split by hand, and the whole is rehearsed with tiny sizes."""

import json
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.on_device import trace

ROOT = pathlib.Path(__file__).parents[2]


def span(pid, tid, begin, duration, name):
    return {"ph": "X", "pid": pid, "tid": tid, "ts": begin, "dur": duration, "name": name}


def named(kind, pid, name, **more):
    return {"ph": "M", "pid": pid, "name": kind, "args": {"name": name}, **more}


EVENTS = [
    named("process_name", 1, "/host:CPU"), named("process_name", 7, "/device:GPU:0"),
    named("thread_name", 1, "python", tid=1), named("thread_name", 7, "Stream #14(compute)", tid=2),
    named("thread_name", 7, "XLA Modules", tid=3),
    span(1, 1, 0, 900, "train"), span(7, 3, 0, 100, "jit_train"),
    span(7, 2, 10, 5, "fusion_1"), span(7, 2, 14, 6, "fusion_2"), span(7, 2, 50, 10, "fusion_1"),
]  # fmt: skip


def test_a_trace_is_split_into_kernels_and_gaps():
    found = trace.split({"traceEvents": EVENTS})
    assert found["kernels"] == 3
    assert found["busy"] == pytest.approx(20e-6)  # 10 to 20, overlapping, and 50 to 60
    assert found["gaps"] == pytest.approx(30e-6)
    assert list(found["largest"]) == ["fusion_1", "fusion_2"]


def test_a_trace_of_a_cpu_has_no_kernels():
    assert trace.split({"traceEvents": EVENTS[:1]}) == {"kernels": 0}


@pytest.mark.slow
def test_the_script_runs_with_tiny_sizes_on_a_cpu(tmp_path):
    """`pytest -m slow tests/benchmarks`: the last run is in tests/benchmarks/result.md."""
    script = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--tiny", "--output", str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "on_device.json").read_text())
    assert found["fused_rollout"]["equal_actions"] == 1.0
    assert found["widths"]["predicted_bytes"] <= found["widths"]["limit"]
    assert all(row["launches"] > 0 for name, row in found["rates"].items() if name != "seconds")
