"""purerl's networks with the initial weights that flax draws by default, which rejax and the single file start with."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax

from purerl.types import Key, Network, Params

_KERNEL = nn.initializers.lecun_normal()  # N(0, 1 / inputs), cut off at two deviations


class FlaxWeights(NamedTuple):
    """A network that differs from `network` in the distribution of its first kernels alone."""

    network: Network

    def init(self, key: Key, *inputs: Any) -> Params:
        """Parameters of the network, all kernels drawn by flax's default."""
        leaves, structure = jax.tree_util.tree_flatten_with_path(self.network.init(key, *inputs))
        keys = jax.random.split(key, len(leaves))
        drawn = [
            _KERNEL(key, leaf.shape) if path[-1].key == "kernel" else leaf for key, (path, leaf) in zip(keys, leaves)
        ]
        return jax.tree.unflatten(structure, drawn)

    def apply(self, params: Params, *inputs: Any, **options: Any) -> Any:
        """The network's outputs for one example."""
        return self.network.apply(params, *inputs, **options)

    def apply_batch(self, params: Params, *inputs: Any) -> Any:
        """The network's outputs for a batch."""
        return self.network.apply_batch(params, *inputs)
