#!/usr/bin/env bash
# A new user's path, timed step by step: install, train, look at the curves, watch, search, report, use the best policy in
# Python, export it. It takes a directory, which it creates, and what pip installs, such as a wheel; without one the checkout:
#     bash examples/first_ten_minutes.sh /tmp/first dist/purerl-*.whl
set -euo pipefail
package=$(realpath "${2:-$(dirname "$0")/..}")
mkdir "$1" && cd "$1"
begun=$SECONDS

step() {  # step NAME COMMAND...
  local name=$1 start=$SECONDS
  shift
  "$@" > "$name.log" 2>&1 || { cat "$name.log"; echo "failed: $*"; exit 1; }
  printf '%4d s  %s\n' $((SECONDS - start)) "$*"
}

if [ -z "${PURERL_PYTHON:-}" ]; then  # PURERL_PYTHON: an environment that has purerl already
  step venv python3 -m venv .venv
  step install .venv/bin/pip install -q "$package"
  PURERL_PYTHON=.venv/bin/python
fi
purerl() { "$PURERL_PYTHON" -m purerl "$@"; }

step train purerl train --name first --eval-every 20k --until 475 --num-steps 300k --log jsonl
step curves test -s runs/first/learning_curve.png
step evaluate purerl evaluate first
step watch purerl watch first
step sweep purerl sweep --name search --num-trials 16 --num-seeds 2 --num-steps 50k
step report purerl report search
cat > use.py <<'PYTHON'
import jax
import purerl

policy = purerl.load("search")
obs, env_state = policy.env.reset(jax.random.key(0))
total, ended = 0.0, False
while not ended:
    new = policy.env.step(jax.random.key(1), env_state, policy.act(obs))
    obs, env_state, total, ended = new.obs, new.env_state, total + new.reward, new.terminated | new.truncated
print(f"return {total:.0f}")
PYTHON
step use "$PURERL_PYTHON" use.py
step export purerl export search
tail -n 1 use.log export.log
printf '%4d s  in all\n' $((SECONDS - begun))
