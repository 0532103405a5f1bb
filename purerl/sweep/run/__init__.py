"""Running a search: the plan, rungs, the engine, executors and the journal."""
