"""Default networks as flax modules. A network sees ONE example; agents vmap it.

Anything with `init(key, *inputs)` and `apply(params, *inputs)` can stand in for them: these are defaults, not a base
class.
"""

from purerl.networks.batch_norm import BatchNormCritic, batch_norm_critic
from purerl.networks.continuous import (
    Critic,
    DeterministicActor,
    GaussianActor,
    critic,
    deterministic_actor,
    gaussian_actor,
)
from purerl.networks.images import CONVOLUTIONS, PatchConv
from purerl.networks.implicit_quantiles import ImplicitQuantileNetwork, implicit_quantile_network
from purerl.networks.latent import LatentModel, latent_model
from purerl.networks.layers import Torso
from purerl.networks.nnx import from_nnx
from purerl.networks.observations import check_observation, encode, features
from purerl.networks.policy import ActorCritic, PolicyHead, actor_critic
from purerl.networks.q_values import QNetwork, q_network
from purerl.networks.recurrent import RecurrentNetwork, recurrent_actor_critic, recurrent_q_network
from purerl.networks.state_dependent import GSDEActor, gsde_actor

__all__ = [
    "CONVOLUTIONS",
    "ActorCritic",
    "BatchNormCritic",
    "Critic",
    "DeterministicActor",
    "GSDEActor",
    "GaussianActor",
    "ImplicitQuantileNetwork",
    "LatentModel",
    "PatchConv",
    "PolicyHead",
    "QNetwork",
    "RecurrentNetwork",
    "Torso",
    "actor_critic",
    "batch_norm_critic",
    "check_observation",
    "critic",
    "deterministic_actor",
    "encode",
    "features",
    "from_nnx",
    "gaussian_actor",
    "gsde_actor",
    "implicit_quantile_network",
    "latent_model",
    "q_network",
    "recurrent_actor_critic",
    "recurrent_q_network",
]
