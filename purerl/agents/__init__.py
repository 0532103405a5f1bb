"""One file an algorithm; each makes an `Agent` of pure functions."""
