"""One file per algorithm; each makes an `Agent` of pure functions."""
