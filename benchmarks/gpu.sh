#!/usr/bin/env bash
# Everything to measure on the day an NVIDIA GPU is at hand, in less than eight minutes and without a network.
#
#   bash benchmarks/gpu.sh                     # with the Python environment that is active
#   bash benchmarks/gpu.sh --wheels FOLDER     # in an environment made of the wheels in FOLDER, such as
#                                              # pip download -d FOLDER . "jax[cuda12]<0.12"
#   bash benchmarks/gpu.sh --tiny              # a rehearsal with tiny sizes, on any machine
#
# Further options go to python -m benchmarks.on_device. The results are in gpu-results/: on_device.json, the profiler's
# trace and the log.
set -euo pipefail
cd "$(dirname "$0")/.."
wheels="" output="gpu-results" arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --wheels) wheels=$(realpath "$2"); shift 2 ;;
    --output) output=$2; shift 2 ;;
    *) arguments+=("$1"); shift ;;
  esac
done
python=${PYTHON:-python3}
if [ -n "$wheels" ]; then
  "$python" -m venv .venv-gpu
  python=.venv-gpu/bin/python
  "$python" -m pip install --quiet --no-index --no-deps "$wheels"/*.whl
fi
mkdir -p "$output"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,memory.total,driver_version,clocks.sm --format=csv > "$output/gpu.csv"
"$python" -m benchmarks.on_device --output "$output" ${arguments[@]+"${arguments[@]}"} 2>&1 | tee "$output/log"
