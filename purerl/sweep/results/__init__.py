"""Results of a search: statistics, comparisons, importance, tables and storage."""
