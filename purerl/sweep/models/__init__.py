"""Model-based search: which trials to try next, given those that were evaluated."""
