"""Plausible bugs of the search engine: each a change of one line of purerl, and the tests that must see it.

A mutant is (module, mistake, line as it is, line as it is wrong, tests), the tests as pytest takes them, below `tests/`.
"""

# ruff: noqa: E501 (a mistake a line)
import second_search_mutants
from mutants import Mutant

JOURNAL, RUNGS, DURABLE = "sweep/run/test_journal.py", "sweep/run/test_rungs.py", "sweep/run/test_durability.py"
RESULTS, STATISTICS, IMPORTANCE = (f"sweep/results/test_{name}.py" for name in ("results", "statistics", "importance"))
SEARCH, RESUME, MODELS = "sweep/test_search.py", "sweep/run/test_resume.py", "sweep/test_model_search.py"
EXTENSION, BACKTRACKING = "sweep/run/test_extension.py", "pbt/test_backtracking.py"
ALGORITHMS = "sweep/trials/test_algorithms.py"
PBT, PBT_RESUME, SPACES, REPORT = "pbt/test_pbt.py", "pbt/test_pbt_resume.py", "sweep/trials/test_spaces.py", "reports"

BY_MODULE = {
    "sweep.run.journal": [
        ("journal without fsync", "            os.fsync(self._descriptor)", "            pass", JOURNAL),
        ("torn tail not cut", "        os.ftruncate(descriptor, length)", "        pass", JOURNAL),
        ("first event wins", '{(event["kind"], event["name"]): event for event in events}', '{(event["kind"], event["name"]): event for event in reversed(events)}', JOURNAL),
        ("checksum of a line not checked", 'if hashlib.sha256(text).hexdigest().encode("ascii") != digest:', "if not digest:", RESUME + "::test_a_torn_line_is_cut_off_and_a_damaged_one_rejected"),
        ("a second process is let in", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB", RESUME + "::test_two_processes_do_not_share_a_directory"),
    ],
    "sweep.run.identity": [
        ("settings not compared on resume", 'elif before.get("digest") != digest:', "elif False:", JOURNAL),
    ],
    "sweep.search": [
        ("a negative number of trials to confirm", "confirm != int(confirm) or confirm < 0", "confirm != int(confirm)", DURABLE + "::test_a_senseless_number_of_trials_to_confirm_is_refused"),
        ("each trial is judged in its own environment", 'if evaluate_in == "own" or trials.reference is None:', "if True:", DURABLE + "::test_the_easiest_environment_does_not_win"),
        ("interval of the unsorted seeds of another array", 'measured["returns"].mean(axis=2, dtype=np.float64)', 'measured["returns"][:, :1].mean(axis=2, dtype=np.float64)', RESULTS),
        ("a stopped search counts as finished", 'if "stopped" not in settings:', "if True:", DURABLE + "::test_a_search_stops_when_it_has_found_what_is_good_enough"),
        ("states of confirmed trials are not kept", "max(keep, confirm, brackets.MOST_TRIALS * auto)", "keep", DURABLE + "::test_the_best_follows_the_confirmed_returns"),
    ],
    "sweep.run.rungs": [
        ("inner rungs of Hyperband rounded up", "max(1, count // eta**i)", "math.ceil(count / eta**i)", RUNGS + "::test_hyperband_is_the_table_of_the_paper"),
        ("a bracket of Hyperband vanishes", "max(1, math.ceil(fits[-1] * share))", "math.ceil(num_trials * share / sum(shares)) ", RUNGS + "::test_no_bracket_of_hyperband_vanishes_and_no_trial_is_left_out"),
        ("leftover trials are dropped", "count + (place < left)", "count", RUNGS + "::test_no_bracket_of_hyperband_vanishes_and_no_trial_is_left_out"),
        ("survivors with NaN", "best = best[~np.isnan(score[best])]", "best = best", RUNGS + "::test_survivors_are_the_best_and_never_nan"),
        ("clearly better trials stop", "best[~(interval[:, 1] < interval[len(best) // 2, 0])]", "best[~(interval[:, 0] > interval[len(best) // 2, 1])]", RUNGS + "::test_clearly_worse_trials_stop_before_their_place_is_taken"),
        ("the last rung is rounded too", "[*(unit * eta**k for k in range(count - 1)), num_updates]", "[unit * eta**k for k in range(count)]", RUNGS + "::test_the_last_rung_ends_where_training_was_asked_to_end"),
        ("ASHA promotes the worst", "best = order[: len(order) // eta][healthy[: len(order) // eta]]", "best = order[::-1][: len(order) // eta]", MODELS + "::test_asha_promotes_the_best_so_far_and_resumes"),
        ("ASHA promotes a trial twice", "return best[~np.isin(best, promoted)]", "return best", MODELS + "::test_asha_promotes_the_best_so_far_and_resumes"),
    ],
    "sweep.run.plan": [
        ("a plan that never drops", "rung._replace(num_trials=min(count, rung.num_trials))", "rung._replace(num_trials=count)", JOURNAL),
        ("scale of groups inverted", "update_steps / program.update_steps for program", "program.update_steps / update_steps for program", JOURNAL),
        ("schedules may leave trials out", "    if left:\n", "    if False:\n", RUNGS + "::test_schedules_that_leave_trials_out_are_refused"),
        ("rungs not aligned between groups", "    if common == 1 or len(bracket) == 1:", "    if True:", RUNGS + "::test_rungs_end_after_the_same_steps_in_every_group"),
        ("points of a rung shifted by one", "(updates > begin) & (updates <= end)", "(updates >= begin) & (updates < end)", RUNGS + "::test_a_trial_that_continues_equals_one_that_was_never_stopped"),
    ],
    "sweep.run.measurements": [
        ("an infinite return is a return", "np.where(np.isfinite(returns).all(axis=1, keepdims=True), returns, np.nan)", "returns", DURABLE + "::test_an_infinite_return_has_diverged"),
        ("one seed finishes a trial", "return self.made.min(axis=1)", "return self.made.max(axis=1)", DURABLE + "::test_a_trial_of_which_one_seed_was_measured_has_not_ended"),
        ("returns of an unfinished rung count", "return {\"returns\": returns}", "return {\"returns\": self.returns}", DURABLE + "::test_a_trial_of_which_one_seed_was_measured_has_not_ended"),
        ("curves take the wrong chunk", "(2 * np.arange(num_points) + 1) * curves", "(2 * np.arange(num_points)) * curves", SEARCH + "::test_points_of_groups_with_other_chunks_lie_in_the_middle"),
        ("rung returns in the first rung only", "measured.rung_returns[stage.rung, trial, seed] = returns", "measured.rung_returns[0, trial, seed] = returns", RUNGS + "::test_halving_trains_the_best_of_each_rung_and_no_others"),
    ],
    "sweep.run.training": [
        ("curve weighs updates equally", "weight = np.where(np.isnan(updates.value), 0, updates.weight)", "weight = np.where(np.isnan(updates.value), 0, 1 + 0 * updates.weight)", JOURNAL),
        ("never saved in between", "        if asked or _since(saved) >= block.save_seconds:", "        if asked:", DURABLE + "::test_a_killed_search_loses_no_more_than_the_time_between_two_saves"),
        ("pieces grow without bound", "2 * length * update_seconds <= save_seconds / 2", "2 * length <= 1e9", DURABLE + "::test_the_length_of_pieces_follows_the_clock_in_powers_of_two"),
        ("failure of a block ends the search", "    except (jax.errors.JaxRuntimeError, MemoryError) as error:", "    except (jax.errors.JaxRuntimeError,) as error:", DURABLE + "::test_a_block_that_fails_is_tried_narrower"),
    ],
    "sweep.run.stages": [
        ("halves of a failed block are not tried", "missing += _halves(engine, block, result)", "_halves(engine, block, result)", DURABLE + "::test_a_block_that_fails_is_tried_narrower"),
        ("a finished block is run again", "    return any(engine.log.find(kind, place.name) for kind in (\"block\", \"failed\"))", "    return False", RESUME + "::test_finished_blocks_are_not_run_again"),
        ("partial progress ignored", "states, progress = partial or", "states, progress = None or", DURABLE + "::test_a_killed_search_loses_no_more_than_the_time_between_two_saves"),
        ("memory of another machine assumed", "for place in unfinished if narrow < width else []:", "for place in []:", DURABLE + "::test_a_search_continues_on_a_machine_with_less_memory"),
    ],
    "sweep.run.pool": [
        ("states by place instead of by member", "rows = self.rows[np.searchsorted(self.members, wanted)]  # the row of each member in the block", "rows = np.arange(len(wanted))", RESUME + "::test_a_directory_changes_nothing_and_holds_the_result"),
        ("checkpoints on disk stay for ever", "            if not source.members.size and source.path is not None:", "            if False:", DURABLE + "::test_the_states_on_the_disk_are_bounded"),
    ],
    "sweep.run.brackets": [
        ("a trial that was stopped is replayed to the end", "stage = _made(engine, plan.stage(b, r), members[0], log)", "stage = plan.stage(b, r)", EXTENSION + "::test_a_trial_that_was_stopped_is_replayed_no_further"),
        ("fresh seeds are the old ones", "    seed_key, eval_key = jax.random.split(jax.random.fold_in(key, 1))", "    seed_key, eval_key = jax.random.split(key, 4)[1:3]", DURABLE + "::test_fresh_seeds_and_episodes_are_others_than_those_of_the_search"),
        ("fresh returns on other trials", "rows, evidence = np.isin(fresh.trials, trials), again.measured.evidence(trials)", "rows, evidence = np.isin(fresh.trials, trials), again.measured.evidence(trials[::-1])", DURABLE + "::test_fresh_returns_are_those_of_their_trials"),
        ("the worst trials are confirmed", "best = np.sort(best_trials(engine, count)) if count", "best = np.sort(best_trials(engine, None)[-count:]) if count", DURABLE + "::test_the_best_follows_the_confirmed_returns"),
        ("every bracket keeps all of its states", "            kept.retain(engine.member_index.of_trials(best_trials(engine, keep)), delete=enough is None)", "            pass", RUNGS + "::test_hyperband_gives_every_bracket_its_own_trials"),
        ("a stopped search deletes what its next rung needs", ", delete=enough is None)", ")", RESUME + "::test_a_search_that_a_budget_stopped_anywhere_resumes_to_the_same_result"),
        ("missing states stay missing", "        _train_lost(engine, plan, b, r, members, states)", "        pass", RESUME + "::test_states_of_a_stopped_search_that_are_missing_are_trained_again"),
        ("decided trials keep taking seeds", "        left = left[high >= low[leader]]", "        left = left", DURABLE + "::test_trials_that_are_decided_take_no_further_seeds"),
    ],
    "sweep.run.monitor": [
        ("seconds of this process only", "return self._before + time.perf_counter() - self._begin", "return time.perf_counter() - self._begin", JOURNAL),
        ("seconds of earlier processes summed", "max(self._before, seconds)", "self._before + seconds", JOURNAL),
    ],
    "sweep.run.memory": [
        ("aliased memory counted twice", "        - account.alias_size_in_bytes", "        + account.alias_size_in_bytes", JOURNAL),
        ("temporary memory left out", "        + account.temp_size_in_bytes\n", "", JOURNAL),
        ("limit ignored", "    while taken > limit and width > unit:", "    while False:", JOURNAL),
        ("host memory not shared by the devices", "free = _free_host_memory() / jax.local_device_count()", "free = _free_host_memory()", JOURNAL),
    ],
    "sweep.run.blocks": [
        ("the last block is filled with the first member", "np.minimum(np.arange(num_blocks * width), num_agents - 1)", "np.arange(num_blocks * width) % num_agents", SEARCH + "::test_blocks_hold_every_agent_and_little_else"),
        ("one block too many", "num_blocks = math.ceil(num_agents / width)", "num_blocks = num_agents // width + 1", SEARCH + "::test_blocks_hold_every_agent_and_little_else"),
        ("a wasteful width is used again", "slots(width) <= _WASTE * slots(even)", "slots(width) >= slots(even)", RUNGS + "::test_a_width_that_is_compiled_is_used_again_if_it_wastes_little"),
    ],
    "sweep.trials.draws": [
        ("Sobol not scrambled", "scramble=True", "scramble=False", JOURNAL),
        ("one column of the Sobol sequence for all", "return sequence.random_base2(math.ceil(math.log2(count)))[:count].T", "return sequence.random_base2(math.ceil(math.log2(count)))[:count, :1].T.repeat(dimensions, 0)", JOURNAL),
        ("rows of the Sobol sequence as columns", "return sequence.random_base2(math.ceil(math.log2(count)))[:count].T", "return sequence.random_base2(math.ceil(math.log2(count)))[:count].reshape(dimensions, count)", JOURNAL),
        ("draws of all names are the same", "key = jax.random.fold_in(key, zlib.crc32(name.encode()))", "key = key", SPACES),
    ],
    "sweep.trials.trials": [
        ("conditions ignored", "return np.where(_active(parts, drawn, name), drawn[name]", "return np.where(True, drawn[name]", SPACES + "::test_a_name_is_searched_only_where_its_condition_holds"),
        ("a grid repeats what a condition switches off", "numbers = np.where(_active(parts, drawn, name), len(points), 1)", "numbers = np.full(len(drawn[parts.conditions[name].parent]), len(points))", SPACES + "::test_a_grid_of_conditions_has_each_setting_once"),
        ("constraint inverted", "bool(constraint(dict(zip(trials.columns, row))))", "not constraint(dict(zip(trials.columns, row)))", SPACES),
    ],
    "sweep.trials.spaces": [
        ("logarithmic integers never reach the highest", "_between(self.low, self.high + 1, unit, self.log)), self.low", "_between(self.low, self.high, unit, self.log)), self.low", SPACES),
        ("prior ignored", "unit = unit if self.prior is None else self._weighted(unit)", "unit = unit", SPACES),
    ],
    "sweep.results.storage": [
        ("storage writes NaN", "return None if math.isnan(value) else str(value)", "return value", RESULTS),
        ("states by place instead of by group", "places = [int((owners[:i] == group).sum()) for i, group in enumerate(owners)]", "places = [0 for i, group in enumerate(owners)]", RESULTS),
    ],
    "sweep.results.ranking": [
        ("stopped trials not last", "(*keys, *_keys(score), *again, -far)", "(*keys, *_keys(score), *again)", RESULTS),
        ("confirmed returns do not choose", "(*keys, *_keys(score), *again, -far)", "(*keys, *_keys(score), -far)", DURABLE + "::test_the_best_follows_the_confirmed_returns"),
        ("NaN first", "return np.where(np.isnan(criterion), 0, -criterion), np.isnan(criterion)", "return np.where(np.isnan(criterion), 0, -criterion), ~np.isnan(criterion)", RESULTS),
        ("ties by the last criterion first", "for criterion in reversed(ties)", "for criterion in ties", RESULTS),
        ("the slowest first", "found.append(-steps_until(", "found.append(steps_until(", RESULTS),
    ],
    "sweep.results.objectives": [
        ("a minimised objective is maximised", "values = values if objective.maximize else -values", "values = values", RESULTS),
        ("area not divided by the steps", "weight = np.where(places <= last, np.diff(steps, prepend=0), 0)", "weight = np.where(places <= last, 1, 0)", RESULTS),
        ("a point on the front is beaten by its equal", "(rivals >= values[trial]).all(axis=1) & (rivals > values[trial]).any(axis=1)", "(rivals >= values[trial]).all(axis=1)", RESULTS),
        ("percentile from the other end", "return quantile(scores, objective.quantile)", "return quantile(scores, 1 - objective.quantile)", RESULTS),
        ("equal trials beat each other", "(rivals >= values[trial]).all(axis=1) & (rivals > values[trial]).any(axis=1)", "(rivals >= values[trial]).all(axis=1)", RESULTS + "::test_equal_trials_are_both_on_the_front"),
        ("one better objective beats", "(rivals >= values[trial]).all(axis=1) &", "", RESULTS + "::test_the_pareto_front_is_what_no_trial_beats"),
        ("a trial with NaN is on the front", "known = ~np.isnan(values).any(axis=1)", "known = ~np.isnan(values).all(axis=1)", RESULTS + "::test_a_trial_without_one_of_the_objectives_is_not_on_the_front"),
    ],
    "sweep.results.result": [
        ("steps of the curves off by a chunk", "self.steps[chunk], values)", "self.steps[chunk - 1], values)", RESULTS),
        ("the worst seed is selected", "np.argmax(np.nan_to_num(self.seed_returns[trial, among], nan=-np.inf))", "np.argmin(self.seed_returns[trial, among])", RESULTS),
        ("a trial that diverged on a fresh seed stays", "        score[lost] = np.nan", "        pass", DURABLE + "::test_a_nan_among_the_fresh_seeds_is_said_and_ends_nothing"),
    ],
    "sweep.run.extension": [
        ("trials not part of what is compared", "    names = repr((trials.groups, sorted(trials.columns)))\n    return digest_of({names: (trials.hparams, trials.env_params, trials.group)}, key)", '    return "same"', JOURNAL),
        ("a search may shrink", "if now < sum(before):", "if False:", EXTENSION + "::test_a_search_neither_shrinks_nor_takes_other_trials"),
        ("other trials are added in silence", 'before["digests"] != digests[: len(before["digests"])]', "False", EXTENSION + "::test_trials_that_were_added_are_not_exchanged"),
        ("added seeds train stopped trials to the end", "left = trials[reached > r]", "left = trials", EXTENSION + "::test_added_trials_are_halved_among_themselves_and_ranked_with_the_others"),
        ("trials are added to ASHA", "if isinstance(schedule, rungs.Asha) and found != found.first._replace(seeds=found.seeds):", "if False:", EXTENSION + "::test_a_search_neither_shrinks_nor_takes_other_trials"),
        ("added seeds repeat the keys of the first", "engine = whole._replace(measured=whole.measured.of_seeds(seeds), seed_keys=whole.seed_keys[seeds])\n        if number:", "engine = whole._replace(measured=whole.measured.of_seeds(seeds), seed_keys=whole.seed_keys[:count])\n        if number:", EXTENSION + "::test_a_search_that_has_grown_is_the_larger_search"),
        ("added trials are halved with the others", "for count in found.trials for bracket", "for count in [sum(found.trials)] for bracket", EXTENSION + "::test_the_plan_of_added_trials_is_a_bracket_of_their_own"),
        ("a smaller search that ended ends the larger one", "all(end.get(name, sum(part)) == sum(part) for name, part in found.counts.items())", "True", EXTENSION + "::test_a_search_that_has_grown_is_the_larger_search"),
        ("diverged trials train further", "healthy & far & (seeds == len(engine.seed_keys))", "far & (seeds == len(engine.seed_keys))", EXTENSION + "::test_trials_that_diverged_train_no_further"),
        ("a search that was cut is made longer", 'if end["kind"] != "end" or "kept" not in end:', "if False:", EXTENSION + "::test_a_search_is_made_longer_only_when_it_has_finished_and_by_updates_alone"),
    ],
    "sweep.trials.algorithms": [
        ("an algorithm reads the hyperparameters of another", "own = type(each.hparams)(**own_fields(hparams._asdict(), algorithm, tuple(every)))", "own = each.hparams", ALGORITHMS + "::test_every_algorithm_trains_with_its_own_sizes_for_equal_steps"),
        ("all algorithms train with the sizes of the search", "each.num_envs, each.rollout_length, each.rollout, each.env)\n\n    return build", "None, None, each.rollout, each.env)\n\n    return build", ALGORITHMS + "::test_every_algorithm_trains_with_its_own_sizes_for_equal_steps"),
        ("algorithms are drawn by chance", "choice(every, in_turn=True)", "choice(every)", ALGORITHMS + "::test_every_algorithm_gets_its_share_of_the_trials_in_turn"),
        ("hyperparameters are searched in the trials of all algorithms", "when(ALGORITHM, [name], plain)", "plain", ALGORITHMS + "::test_every_algorithm_gets_its_share_of_the_trials_in_turn"),
        ("td3_bc is taken for td3", "key=len, default=None", "key=lambda each: -len(each), default=None", ALGORITHMS + "::test_the_longest_name_owns_a_hyperparameter"),
        ("values of other algorithms are shown", "np.array([each == of for each in mine.tolist()])", "np.ones(count, bool)", ALGORITHMS + "::test_the_table_names_the_algorithm_and_leaves_out_what_others_have"),
    ],
    "sweep.results.algorithms": [
        ("the best of an algorithm is its first trial", "np.flatnonzero(mine[result.order])[0]", "np.flatnonzero(mine)[0]", ALGORITHMS + "::test_the_best_trial_of_an_algorithm_may_rank_far_behind"),
        ("the median of the trials of all algorithms", "compared.iqm[mine[compared.trials]]", "compared.iqm", ALGORITHMS + "::test_the_median_of_an_algorithm_is_that_of_its_own_trials"),
    ],
    "sweep.results.comparison": [
        ("compared after the fewest updates", "_, length = max(zip(counts, lengths))", "length = lengths.min()", JOURNAL),
        ("agreement of all trials, also the stopped ones", "found = [rank_correlation(a, b)", "found = [rank_correlation(a, a)", STATISTICS + " sweep/results/test_results.py::test_seeds_that_disagree_have_no_agreement"),
        ("mean in place of the interquartile mean", "return interquartile_mean(self.returns.mean(axis=2, dtype=np.float64))", "return self.returns.mean(axis=(1, 2), dtype=np.float64)", JOURNAL),
    ],
    "sweep.results.statistics": [
        ("interval of half the confidence", "tails = [(1 - confidence) / 2, (1 + confidence) / 2]", "tails = [(1 - confidence), confidence]", STATISTICS),
        ("a quarter is cut at one end only", "[..., cut : values.shape[-1] - cut]", "[..., cut:]", STATISTICS),
        ("coverage of one seed more", "1 - 2.0 ** (1 - num_runs)", "1 - 2.0 ** (-num_runs)", STATISTICS),
    ],
    "sweep.results.importance": [
        ("NaN counts as the mean", "np.where(np.isnan(returns), np.nanmin(returns), returns)", "np.where(np.isnan(returns), np.nanmean(returns), returns)", IMPORTANCE),
        ("categories at the edges of their parts", "return (code + 0.5) / len(names)", "return code / len(names)", JOURNAL),
        ("defaults in the range of what is searched", "        return space.holds(column)", "        return np.ones(len(column), bool)", IMPORTANCE),
        ("noise of returns that are not shuffled", "rng.permutation(returns)", "returns", IMPORTANCE),
    ],
    "sweep.optuna_search": [
        ("a restart draws the same trials", "jax.random.bits(jax.random.fold_in(key, num_trials))", "jax.random.bits(key)", "sweep/test_optuna_search.py::test_a_restart_does_not_draw_the_same_trials_again"),
        ("values told at the steps of another bracket", "zip(result.evaluated_after()[:, i].tolist(), values.tolist())", "zip(sorted({rung.num_updates for b in result.settings[\"brackets\"] for rung in b}), values.tolist())", "sweep/test_optuna_search.py::test_values_of_hyperband_are_told_at_the_steps_of_their_own_bracket"),
    ],
    "sweep.models.tpe": [
        ("the bad trials are imitated", "good = seen.known & (rank < number)", "good = seen.known & (rank >= number)", MODELS + "::test_a_model_proposes_better_than_chance_in_a_batch_of_different_points"),
        ("a candidate is chosen twice", "blocked = blocked.at[best].set(True) if candidates.shape[0] else blocked", "blocked = blocked", MODELS + "::test_candidates_are_chosen_once_each_and_the_same_key_chooses_the_same"),
    ],
    "sweep.models.gp": [
        ("variance without what was seen", "variance = jnp.exp(kernel.scale) - jnp.sum(c**2, axis=0)", "variance = jnp.exp(kernel.scale) + 0 * jnp.sum(c**2, axis=0)", MODELS + "::test_the_process_is_that_of_a_plain_gaussian_conditional"),
        ("likelihood without the determinant", "return -0.5 * jnp.sum(white**2) - jnp.sum(jnp.where(seen.known, jnp.log(jnp.diag(root)), 0))", "return -0.5 * jnp.sum(white**2)", MODELS + "::test_the_process_is_that_of_a_plain_gaussian_conditional"),
    ],
    "hparams": [
        ("rates that were annealed stay at 0", "np.where(made > before - 1, before * stretch, before)", "np.where(made > before, before * stretch, before)", EXTENSION + "::test_learning_rates_that_have_reached_0_are_annealed_to_the_new_end"),
        ("all rates are annealed longer", "np.where(made > before - 1, before * stretch, before)", "before * stretch", EXTENSION + "::test_learning_rates_that_have_reached_0_are_annealed_to_the_new_end"),
    ],
    "pbt.exploit_explore": [
        ("equal scores are replaced", "worse = ~healthy | (scores < known[donors])", "worse = ~healthy | (scores <= known[donors])", PBT + "::test_equal_scores_replace_nobody"),
        ("ties in the order of the members", "shuffled = jax.random.permutation(jax.random.fold_in(key, 1), jnp.arange(known.size))", "shuffled = jnp.arange(known.size)", PBT + "::test_ties_are_decided_by_chance_and_a_member_copies_only_a_better_one"),
    ],
    "pbt.rounds": [
        ("the same episodes in every round", "decide_key, score_key = jax.random.split(round_key)", "decide_key, score_key = jax.random.split(round_key)[0], state.key", PBT + "::test_members_that_learn_nothing_play_other_episodes_in_each_round"),
        ("number of the replaced rounded down", "max(1, round(exploit_fraction * population_size))", "max(1, int(exploit_fraction * population_size))", PBT + "::test_the_share_that_is_replaced_is_rounded"),
        ("the lineage records what was inherited", "return parents, hparams\n\n\ndef _beside", "return parents, inherited\n\n\ndef _beside", PBT + "::test_decisions_follow_from_the_scores_and_theta_from_the_schedule"),
        ("a score of a diverged learner", "jnp.isfinite(score) & ~diverged(member.agent_state)", "jnp.isfinite(score)", PBT + "::test_members_that_diverge_are_replaced_even_if_their_actions_hide_it"),
    ],
    "pbt.run": [
        ("seconds forgotten on resume", "begin = time.perf_counter() - now.seconds", "begin = time.perf_counter()", PBT_RESUME + "::test_the_time_of_earlier_processes_counts"),
    ],
    "sweep.results.pareto": [
        ("the front from the worst on", "values[on, 0] * (-1 if maximize[0] else 1)", "values[on, 0] * (1 if maximize[0] else -1)", RESULTS + "::test_the_front_is_listed_from_the_best_in_the_first_objective"),
        ("a cost of a trial that diverged", "return np.where(lost, np.nan, cost)", "return cost", RESULTS + "::test_a_trial_that_diverged_costs_nothing_that_is_known"),
    ],
    "pbt.backtracking": [
        ("the worst are the elites", "jnp.where(jnp.isnan(found.scores), jnp.inf, -found.scores)", "jnp.where(jnp.isnan(found.scores), jnp.inf, found.scores)", BACKTRACKING + "::test_members_go_back_to_elites_where_training_longer_hurts"),
        ("elites from before the first round", "jnp.where(last >= 0, scores, jnp.nan)", "scores", BACKTRACKING + "::test_before_the_first_round_no_score_is_known"),
        ("the lineage forgets the round", "population_size * (last - found.rounds)", "0 * found.rounds", BACKTRACKING + "::test_the_lineage_says_in_which_rounds_a_learner_was_trained"),
    ],
    "pbt.snapshots": [
        ("elites forgotten on resume", "num_rounds=jnp.int32(num_rounds), elites=elites)", "num_rounds=jnp.int32(num_rounds))", BACKTRACKING + "::test_a_run_with_elites_that_is_interrupted_ends_the_same"),
    ],
    "reports.sections": [
        ("report without the hyperparameters", 'lines = [f"    {name}={value!r}," for name, value in own.items()]', "lines = []", "reports/test_html_report.py::test_the_best_trial_can_be_copied"),
        ("every bar is a finding", "return ' class=\"pale\"' if share <= chance else \"\"", 'return ""', "reports/test_html_report.py::test_a_bar_that_chance_explains_is_pale"),
    ],
}  # fmt: skip

EVERY = (BY_MODULE, second_search_mutants.BY_MODULE)
MUTANTS = [Mutant(module, *mutant) for each in EVERY for module, mutants in each.items() for mutant in mutants]
