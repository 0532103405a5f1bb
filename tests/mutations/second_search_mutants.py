"""A second hundred of plausible bugs of the search engine, written after the tests that see the first ones.

The tests beside each are those of its part; those with `purerl/` are the examples in the docstrings of a module.
"""

# ruff: noqa: E501 (a mistake a line)

RESULTS, STATISTICS, IMPORTANCE = (f"sweep/results/test_{name}.py" for name in ("results", "statistics", "importance"))
SPACES, JOURNAL, RUNGS, FORECAST = (
    "sweep/trials/test_spaces.py",
    *(f"sweep/run/test_{name}.py" for name in ("journal", "rungs", "forecast")),
)
SEARCH, MODELS, DURABLE = "sweep/test_search.py", "sweep/test_model_search.py", "sweep/run/test_durability.py"
ALGORITHMS, EXTENSION, RESUME = (
    "sweep/trials/test_algorithms.py",
    "sweep/run/test_extension.py",
    "sweep/run/test_resume.py",
)
PBT, BACKTRACKING, CHECKPOINT, IDENTITY = (
    "pbt/test_pbt.py",
    "pbt/test_backtracking.py",
    "test_checkpoint.py",
    "sweep/run/test_identity.py",
)
MEASURED = "sweep/run/test_measurements.py"
DECISIONS = f"{PBT}::test_exploit_is_truncation_selection {PBT}::test_explore_moves_as_the_space_says {PBT}::test_a_factor_of_one_changes_nothing"
KERNELS = " ".join(
    f"{MODELS}::test_{name}"
    for name in (
        "the_density_of_parzen_is_that_of_scipy",
        "the_process_is_that_of_a_plain_gaussian_conditional",
        "a_model_proposes_better_than_chance_in_a_batch_of_different_points",
        "candidates_are_chosen_once_each_and_the_same_key_chooses_the_same",
        "scores_become_quantiles_and_what_diverged_is_the_worst",
        "points_are_decoded_to_what_they_were_encoded_from",
        "expected_improvement_is_right_where_it_underflows_too",
    )
)


def doctests(*modules):
    return " ".join(f"purerl/{module.replace('.', '/')}.py" for module in modules)


BY_MODULE = {
    "sweep.results.statistics": [
        ("the lowest mean has the first rank", "np.inf, -means))", "np.inf, means))", STATISTICS),
        ("a pair with NaN on one side is correlated", "both = ~np.isnan(a) & ~np.isnan(b)", "both = ~np.isnan(a)", STATISTICS),
        ("one run has an interval", "if num_runs < 2:\n        return np.full((*leading", "if num_runs < 1:\n        return np.full((*leading", STATISTICS),
        ("equal values have ranks of their own", "return rankdata(values, axis=axis)", 'return rankdata(values, axis=axis, method="ordinal")', STATISTICS),
        ("rank intervals of half the confidence", "np.quantile(ranks, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)", "np.quantile(ranks, [1 - confidence, confidence], axis=1)", STATISTICS),
        ("the last run is never drawn", "(num_resamples, num_tasks, num_runs), 0, num_runs)", "(num_resamples, num_tasks, num_runs), 0, num_runs - 1)", STATISTICS),
        ("a NaN among many runs is cut off", "np.where(np.isnan(values).any(axis=-1), np.nan, kept.mean(axis=-1))", "kept.mean(axis=-1)", STATISTICS),
        ("all tasks draw the same runs", "[:, tasks, draws]", "[:, tasks, draws[:, :1]]", STATISTICS),
    ],
    "sweep.results.ranking": [
        ("the threshold of negative returns lies above them", "level = own - 0.1 * np.abs(own)", "level = 0.9 * own", RESULTS),
        ("trials that diverged tie", "return np.where(np.isnan(score), 1, counts[place.reshape(-1)])", "return counts[place.reshape(-1)]", f"{RESULTS} {JOURNAL}::test_trials_that_diverged_do_not_tie {doctests('sweep.results.ranking')}"),
        ("trials tie however far they were trained", "np.stack([num_updates.astype(np.float64), np.nan_to_num", "np.stack([0.0 * num_updates, np.nan_to_num", RESULTS),
        ("the area of the best seed breaks ties", "found.append(area_under(evidence.curves, evidence.steps).mean(axis=1))", "found.append(area_under(evidence.curves, evidence.steps).max(axis=1))", RESULTS),
        ("the threshold that was given is ignored", "if threshold is None else np.full(len(own), threshold)", "if True else np.full(len(own), threshold)", RESULTS),
    ],
    "sweep.results.comparison": [
        ("trials that stopped were evaluated in later rungs", "np.where(made > begin, np.minimum(made, end), 0)", "np.full(len(made), end)", doctests("sweep.results.comparison")),
        ("all brackets hold the first trials", "first += len(made)", "first += 0", f"{IMPORTANCE} {JOURNAL}"),
        ("compared trials in the order of their rungs", "place = np.argsort(trials)", "place = np.arange(len(trials))", f"{IMPORTANCE} {JOURNAL}"),
        ("compared after updates instead of steps", "int(length * update_steps))", "int(length))", f"{IMPORTANCE} {JOURNAL}"),
    ],
    "sweep.results.importance": [
        ("a logarithmic range counts in its values", 'np.log(values) if getattr(space, "log", False)', "np.log(values) if False", IMPORTANCE),
        ("a share weighted by its own side too", "part = value * np.delete(sides, d, axis=1).prod(axis=1)", "part = value * volume", IMPORTANCE),
        ("the mean of the leaves is that of the tree", "value = value - (volume * value).sum()", "value = value - value.mean()", IMPORTANCE),
        ("the least important first", "key=lambda item: -item[1])", "key=lambda item: item[1])", IMPORTANCE),
        ("boxes on the wrong side of a split", "high[left, split] = low[right, split] = tree.threshold[nodes]", "high[right, split] = low[left, split] = tree.threshold[nodes]", IMPORTANCE),
        ("permutation shares do not sum to one", "growth / max(growth.sum(), 1e-300)", "growth", IMPORTANCE),
    ],
    "sweep.results.skips": [
        ("only updates that were skipped whole count", "skipped = np.nan_to_num(share) > 0", "skipped = np.nan_to_num(share) >= 1", doctests("sweep.results.skips")),
        ("nothing skipped before hides what is skipped later", "np.fmin(before.after, later.after)", "np.minimum(before.after, later.after)", doctests("sweep.results.skips")),
        ("the last of the first skips of a trial", "np.fmin.reduce(found.after", "np.fmax.reduce(found.after", doctests("sweep.results.skips")),
        ("skips counted from the beginning of the piece", "after = first_step + update_steps *", "after = update_steps *", doctests("sweep.results.skips")),
    ],
    "sweep.results.joining": [
        ("kept members of a later search by their own numbers", "r.kept + begin * first.num_seeds for r", "r.kept + begin for r", f"{MODELS}::test_kept_members_of_joined_searches_are_counted_on"),
        ("trials on fresh seeds by their own numbers", "result.fresh_trials + first for result", "result.fresh_trials for result", f"{MODELS} {RESULTS}"),
        ("rungs that a search did not have returned 0", "len(result.rung_returns)), *[(0, 0)] * 3], constant_values=np.nan)", "len(result.rung_returns)), *[(0, 0)] * 3], constant_values=0)", f"{MODELS} {RESULTS}"),
        ("the time of the last search alone", '"seconds": seconds, "environment_steps": steps}', '"environment_steps": steps}', f"{MODELS} {RESULTS}"),
        ("static choices of a later search by their own numbers", "groups.index(part.groups[number]) for number", "number for number", f"{MODELS} {ALGORITHMS}"),
    ],
    "sweep.results.objectives": [
        ("the end of a curve has no point", "np.maximum(1, np.ceil(share * known.sum(axis=-1, keepdims=True)))", "np.floor(share * known.sum(axis=-1, keepdims=True))", RESULTS),
        ("the area before the first point is lost", "np.where(before < 0, first, before)", "before", f"{RESULTS} {doctests('sweep.results.objectives')}"),
        ("the area without its last point", "weight = np.where(places <= last,", "weight = np.where(places < last,", RESULTS),
        ("a threshold is reached when it is passed", "np.nan_to_num(curves, nan=-np.inf) >= threshold", "np.nan_to_num(curves, nan=-np.inf) > threshold", f"{RESULTS} {doctests('sweep.results.objectives')}"),
        ("a percentile of the best seeds", "quantile=q / 100)", "quantile=1 - q / 100)", RESULTS),
        ("seconds to a threshold times steps", "return until / made * evidence.seconds", "return until * evidence.seconds", RESULTS),
        ("a chunk without an episode reaches every threshold", "np.nan_to_num(curves, nan=-np.inf) >= threshold", "np.nan_to_num(curves, nan=np.inf) >= threshold", f"{RESULTS} {doctests('sweep.results.objectives')}"),
    ],
    "sweep.results.pareto": [
        ("seconds of all seeds together", "cost = result.evidence.seconds.mean(axis=1)", "cost = result.evidence.seconds.sum(axis=1)", RESULTS),
        ("parameters by trial instead of by group", '["parameters"], np.float64)[result.trials.group]', '["parameters"], np.float64)[0 * result.trials.group]', f"{RESULTS} {ALGORITHMS} {SEARCH}"),
        ("ranks of the front are those of the trials before", "rank = np.argsort(result.order) + 1", "rank = result.order + 1", RESULTS),
        ("a minimised objective with its sign changed", "return scores if goal.maximize else -scores", "return scores", RESULTS),
    ],
    "sweep.trials.spaces": [
        ("positions of integers at the lower end of their share", "values + more, self.log) for more in (0, 1))", "values + more, self.log) for more in (0, 0))", SPACES),
        ("positions of choices at the lower end of their share", "np.asarray(values).tolist()]) + 0.5) / len(options)", "np.asarray(values).tolist()])) / len(options)", f"{SPACES} {KERNELS}"),
        ("integers of a grid rounded down", "np.unique(np.rint(values).astype(np.int64))", "np.unique(np.floor(values).astype(np.int64))", SPACES),
        ("a grid of integers without the highest", "np.arange(int(self.low), int(self.high) + 1)", "np.arange(int(self.low), int(self.high))", SPACES),
        ("a prior piles up at the bounds", "special.ndtri(low + unit * (high - low))", "special.ndtri(unit)", SPACES),
        ("a logarithmic range from 0", "if self.log and self.low <= 0:", "if self.log and self.low < 0:", SPACES),
        ("values in turn are drawn when read back", 'fields.get("in_turn", False)', "False", SPACES),
        ("a whole number is refused for a float", 'if wanted == "float" and kind == "integer":', "if False:", SPACES),
        ("the nearest option is the smallest", "np.argmin([abs(float(option) - value) for option in options])", "np.argmin([float(option) - value for option in options])", SPACES),
        ("a space from its high to its low", "if self.low >= self.high:", "if self.low == self.high:", SPACES),
    ],
    "sweep.trials.draws": [
        ("columns in the precision of the draws", "values.astype(getattr(base, name).dtype) for name, values in columns.items()})", "values for name, values in columns.items()})", SPACES),
        ("values in turn are the first one", "np.arange(num_trials) % len(each.values)", "np.arange(num_trials) // num_trials", f"{SPACES} {ALGORITHMS}::test_every_algorithm_gets_its_share_of_the_trials_in_turn"),
        ("the first name of a grid varies fastest", 'indexing="ij"', 'indexing="xy"', f"{SPACES} {doctests('sweep.trials.draws')}"),
        ("every key has the same Sobol sequence", "np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())", "np.random.default_rng(0)", f"{SPACES} {JOURNAL}"),
        ("all trials draw the same numbers", "draw(np.arange(count))", "draw(np.zeros(count, int))", SPACES),
    ],
    "sweep.trials.trials": [
        ("a larger search with a constraint begins with other trials", "np.flatnonzero(good)[:num_trials]", "np.flatnonzero(good)[-num_trials:]", SPACES),
        ("groups of trials that are not there yet", "groups=trials.groups[: group.max(initial=0) + 1]", "groups=trials.groups", f"{SPACES}::test_the_first_trials_of_a_table_are_those_of_a_smaller_search_with_its_groups_alone"),
        ("groups in the order of their values", "order = np.argsort(first)", "order = np.arange(len(first))", f"{EXTENSION}::test_groups_keep_their_numbers_when_trials_are_added"),
        ("a condition on a float that was rounded fails", "return math.isclose(value, option, rel_tol=1e-6) if numeric else value == option", "return value == option", SPACES),
        ("conditions in the order in which they are typed", "if name not in order and (each.parent not in conditions or each.parent in order)", "if name not in order", SPACES),
        ("constants of a table count as searched", "if (column != column[0]).any()}", "}", SPACES),
    ],
    "sweep.trials.parsing": [
        ("the rollout length is a hyperparameter", 'name in ("algorithm", "num_envs", "rollout_length")', 'name in ("algorithm", "num_envs")', f"{SPACES} {doctests('sweep.trials.parsing')}"),
        ("points of a typed grid are ignored", 'points = {"points": _number(value)}', "points = {}", f"{SPACES} {doctests('sweep.trials.parsing')}"),
    ],
    "sweep.trials.members": [
        ("members seed by seed", "self.encode(trials[:, None], np.arange(self.num_seeds)).reshape(-1)", "self.encode(trials[None], np.arange(self.num_seeds)[:, None]).reshape(-1)", doctests("sweep.trials.members")),
        ("trials and seeds exchanged", "return trial, seed", "return seed, trial", doctests("sweep.trials.members")),
    ],
    "sweep.run.memory": [
        ("the line begins at the first width", "return Line(bytes_1 - per_agent * width_1, per_agent)", "return Line(bytes_1, per_agent)", doctests("sweep.run.memory")),
        ("the limit of the container is ignored", "min(float(found[1]) * 1024, _container_limit())", "float(found[1]) * 1024", JOURNAL),
        ("one member more than fits", "max(0, math.floor((limit - self.fixed) / self.per_agent))", "max(0, math.ceil((limit - self.fixed) / self.per_agent))", f"{doctests('sweep.run.memory')}"),
        ("a width that the devices do not divide", "width = max(unit, block_size // unit * unit)", "width = max(unit, block_size)", JOURNAL),
    ],
    "sweep.run.blocks": [
        ("a compiled width beyond the largest one", "if width <= block_size and slots(width)", "if slots(width)", f"{RUNGS}::test_a_width_that_is_compiled_is_used_again_if_it_wastes_little"),
        ("the width is not a multiple of the devices", "width = math.ceil(num_agents / num_blocks / unit) * unit", "width = math.ceil(num_agents / num_blocks)", "sweep/run/test_blocks.py"),
    ],
    "sweep.run.measurements": [
        ("repeats share the time of a block", "seconds / len(np.unique(members))", "seconds / (len(members) + 1)", MEASURED),
        ("the time of the last rung alone", "measured.seconds[trial, seed] = measured.seconds[trial, seed] + seconds", "measured.seconds[trial, seed] = seconds", MEASURED),
        ("skips counted from the beginning of the rung", "later = skipped._replace(after=skipped.after + stage.first_step)", "later = skipped", MEASURED),
        ("an infinite point of a curve stays", "curves = np.where(np.isfinite(curves), curves, np.nan)", "curves = curves", MEASURED),
    ],
    "sweep.run.monitor": [
        ("the rate of a resumed search counts compiling", "self._first = self._first or self._last", "self._first = self._first or (self._begin, self._skipped)", "sweep/run/test_rates.py"),
        ("steps of earlier processes are in the rate", "((moment, done + steps) for moment, done in (self._first, self._last))", "(self._first, (self._last[0], self._last[1] + steps))", "sweep/run/test_rates.py"),
    ],
    "sweep.run.identity": [
        ("a name that went is no difference", "for name in [*now, *then] if whole", "for name in [*now] if whole", IDENTITY),
        ("versions are not compared", "    return found | {name: getattr(jax.config, name) for name", "    return {name: getattr(jax.config, name) for name", IDENTITY),
        ("functions by their name alone", "        return inspect.getsource(function)", "        return name", IDENTITY),
        ("what a function closes over is ignored", "cells = [cell.cell_contents for cell in value.__closure__ or ()]", "cells = []", IDENTITY),
        ("journals of earlier versions are refused", 'if whole else filter(then.__contains__, now)', "if True else filter(then.__contains__, now)", IDENTITY),
    ],
    "sweep.run.budget": [
        ("a minimised objective is good enough at once", "level = until if rules.objective.maximize else -until", "level = until if rules.objective.maximize else -np.inf", MEASURED),
        ("one seed of a trial is enough", "np.isin(members, finished)).all(axis=1)", "np.isin(members, finished)).any(axis=1)", MEASURED),
        ("steps are never spent", "steps >= budget.max_steps", "steps > 1e18", MEASURED),
    ],
    "sweep.run.brackets": [
        ("the first trial of a bracket is replayed in the one before", 'np.searchsorted(firsts, trial, side="right")', 'np.searchsorted(firsts, trial, side="left")', MEASURED),
        ("trials that were never trained can be the best", "return order[: (measured.num_updates > 0).sum()][:count]", "return order[:count]", MEASURED),
    ],
    "sweep.run.rungs": [
        ("survivors from the best to the worst", "    return np.sort(best)\n", "    return best\n", f"{RUNGS}::test_survivors_are_the_best_and_never_nan"),
        ("lengths of rungs far from what was asked", "range(math.ceil(wanted / 1.2), math.floor(1.2 * wanted) + 1)", "range(1, math.floor(4 * wanted) + 1)", f"{RUNGS} {doctests('sweep.run.rungs')}"),
        ("rungs that double whatever eta is", "[*(unit * eta**k for k in range(count - 1)), num_updates]", "[*(unit * 2**k for k in range(count - 1)), num_updates]", f"{RUNGS} {doctests('sweep.run.rungs')}"),
    ],
    "pbt.backtracking": [
        ("the oldest of equal elites is kept", "order = jnp.argsort(jnp.where(jnp.isnan(found.scores), jnp.inf, -found.scores), stable=True)", "order = jnp.argsort(jnp.where(jnp.isnan(found.scores), jnp.inf, -found.scores)[::-1], stable=True)", f"{BACKTRACKING} {doctests('pbt.backtracking')}"),
    ],
    "pbt.result": [
        ("the parent of a row is an elite's number", '"parent": lineage.parents % self.population_size}', '"parent": lineage.parents}', BACKTRACKING),
    ],
    "checkpoint.arrays": [
        ("a narrowed leaf is saved", "if isinstance(leaf, np.ndarray | np.generic) and converted.dtype != host.dtype:", "if False:", f"{CHECKPOINT}::test_numbers_are_saved_as_jax_holds_them_and_a_narrowed_numpy_leaf_is_refused"),
        ("leaves of another type are in another order", "if wanted_types[path] != kind:", "if False:", f"{CHECKPOINT}::test_another_structure_is_refused_naming_the_leaf"),
    ],
    "checkpoint.series": [
        ("checkpoints of later steps count among the last", "[path for path in numbered if int(path.name) <= step][-keep:]", "numbered[-keep:]", f"{CHECKPOINT}::test_the_last_k_are_kept_in_order_of_their_number {CHECKPOINT}::test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it"),
        ("the oldest checkpoint is found", "for path in reversed(_numbered(Path(root))):", "for path in _numbered(Path(root)):", f"{CHECKPOINT}::test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it {CHECKPOINT}::test_the_last_k_are_kept_in_order_of_their_number"),
        ("checkpoints in the order of their names", "return sorted(found, key=lambda path: int(path.name))", "return sorted(found, key=lambda path: path.name[::-1])", f"{CHECKPOINT}::test_the_last_k_are_kept_in_order_of_their_number"),
    ],
    "checkpoint.manifest": [
        ("a file that does not belong there is let in", "if written != text_of(actual).encode():", "if any(text not in text_of(actual) for text in written.decode().splitlines()):", f"{CHECKPOINT}::test_a_missing_and_an_extra_file_are_refused_by_name"),
    ],
}  # fmt: skip
