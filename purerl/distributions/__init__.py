"""Action distributions as pytrees: they may cross `jit`, `vmap` and `scan`, and work on one example or on leading
axes.

The methods carry distrax's names. Parameters are [..., A] or [..., D]; a categorical event is a scalar int32, every
other event is the last axis. Nothing is stopped: samples of the two Gaussians are reparameterised, those of the
discrete ones have no gradient. An action outside the support has the dtype's minimum as its log-probability.

Why not distrax itself: its `Categorical` is right but takes 1.25 to 1.4 times as long forward and backward, because
each method normalises the logits again (vmapped log_prob and entropy behind a 64-wide layer, 2,048 x 2 and 2,048 x 18
actions, two CPU cores). Its `MultivariateNormalDiag` breaks when it leaves a `vmap`. Its `Tanh` inverts ±1 to ±∞, so
that a saturated action scores NaN. It has no multi-discrete. Importing it takes 0.4 s. The tests hold these classes
to distrax wherever distrax is right.
"""

from purerl.distributions.base import Distribution
from purerl.distributions.discrete import Categorical, MultiDiscrete, categorical, multi_discrete
from purerl.distributions.gaussian import DiagonalGaussian, TanhGaussian, diagonal_gaussian, tanh_gaussian

__all__ = [
    "Categorical", "DiagonalGaussian", "Distribution", "MultiDiscrete", "TanhGaussian", "categorical",
    "diagonal_gaussian", "multi_discrete", "tanh_gaussian",
]  # fmt: skip
