"""Parts that agents share: applying networks, gradient steps, minibatches, Q-critics, planning."""
