"""What to measure on the day an accelerator is at hand; `benchmarks/gpu.sh` runs it."""
