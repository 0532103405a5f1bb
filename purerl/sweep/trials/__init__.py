"""Which trials a search has: spaces, draws, and the table of trials."""
