"""PPO: settings by environment."""

from __future__ import annotations

import purerl
from purerl import types
from purerl.presets.entries import Algorithm, Preset

_EPOCHS = {"num_epochs": 4, "num_minibatches": 4}
_MINATAR = Preset(
    "ppo", 5_000_000, 64, 128, {"learning_rate": 5e-3}, {"num_epochs": 4, "num_minibatches": 8},
    {"activation": "relu", "convolution": False}, anneal=True,
)  # fmt: skip
_LARGE_BATCHES = _MINATAR._replace(
    num_steps=10_000_000, num_envs=256,
    hparams={"value_clip_epsilon": float("inf")}, agent={**_MINATAR.agent, "num_minibatches": 16},
)  # fmt: skip
_PHYSICS = Preset(
    "ppo", 2_000_000, 64, 32, {"learning_rate": 1e-3, "entropy_coef": 0.0}, {"num_epochs": 4, "num_minibatches": 8},
    combinators=("with_observation_normalization", "with_reward_scaling"), anneal=True,
)  # fmt: skip
_GRID = Preset(
    "ppo", 1_000_000, 32, 128, {"learning_rate": 1e-3}, {"num_epochs": 4, "num_minibatches": 8},
    {"activation": "relu", "convolution": False}, anneal=True,
)  # fmt: skip
# CleanRL's ppo_atari: Schulman et al. 2017, table 5
_FRAMES = Preset(
    "ppo", 10_000_000, 8, 128, {"clip_epsilon": 0.1, "value_clip_epsilon": 0.1}, _EPOCHS,
    {"hidden": (512,), "activation": "relu", "convolution": "nature", "shared_torso": True}, anneal=True,
)  # fmt: skip
_PRESETS = {
    "CartPole-v1": Preset("ppo", 500_000, 4, 128, {}, _EPOCHS, anneal=True),
    "Acrobot-v1": Preset("ppo", 200_000, 16, 64, {"learning_rate": 1e-3}, _EPOCHS, anneal=True),
    "Pendulum-v1": Preset(
        "ppo", 1_000_000, 16, 128, {"learning_rate": 1e-3, "discount": 0.9, "entropy_coef": 0.0},
        {"num_epochs": 10, "num_minibatches": 16},
        combinators=("with_observation_normalization", "with_reward_scaling"), anneal=True,
    ),
    "MountainCar-v0": Preset(
        "ppo", 400_000, 16, 64, {"learning_rate": 1e-3, "gae_lambda": 0.98, "entropy_coef": 0.0}, _EPOCHS,
        combinators=("with_observation_normalization", "with_reward_scaling"), anneal=True,
    ),
    # With fewer environments and a shorter horizon some seeds stay at the first wall of bricks
    "Breakout-MinAtar": _LARGE_BATCHES._replace(
        hparams={**_LARGE_BATCHES.hparams, "learning_rate": 5e-3, "discount": 0.997},
    ),
    "Asterix-MinAtar": _LARGE_BATCHES._replace(
        hparams={**_LARGE_BATCHES.hparams, "learning_rate": 1.5e-3, "discount": 0.999},
    ),
    # Stable-Baselines3's zoo, with rewards scaled
    "gymnasium/LunarLander-v3": Preset(
        "ppo", 1_000_000, 16, 1024, {"learning_rate": 3e-4, "discount": 0.999, "gae_lambda": 0.98},
        {"num_epochs": 4, "num_minibatches": 256}, combinators=("with_reward_scaling",),
    ),
    "navix/": _GRID,
    "xminigrid/": _GRID,
    "brax/": _PHYSICS,
    "playground/": _PHYSICS,
    # The discount λ of the advantages is that of Craftax's own baseline
    "craftax/Craftax-Classic-Symbolic-v1": Preset(
        "ppo", 1_000_000, 64, 64, {"learning_rate": 5e-4, "gae_lambda": 0.8}, {"num_epochs": 4, "num_minibatches": 8},
        {"hidden": (128, 128)}, anneal=True,
    ),
    "jumanji/Snake-v1": Preset(
        "ppo", 8_000_000, 128, 64, {"learning_rate": 2e-3}, {"num_epochs": 2, "num_minibatches": 8},
        {"hidden": (128, 128), "activation": "relu", "convolution": False}, anneal=True,
    ),
    "frames": _FRAMES,
    "image": _MINATAR,
    "continuous": Preset(
        "ppo", 1_000_000, 8, 256, {"learning_rate": 3e-4, "entropy_coef": 0.0},
        {"num_epochs": 10, "num_minibatches": 32},
        combinators=("with_observation_normalization", "with_reward_scaling"), anneal=True,
    ),
    "any": Preset("ppo", 500_000, 16, 128, {}, _EPOCHS, anneal=True),
}  # fmt: skip
_FAST = {
    "CartPole-v1": Preset(
        "ppo", 65_536, 8, 32, {"learning_rate": 2.5e-3, "discount": 0.98, "gae_lambda": 0.9}, _EPOCHS,
        {"policy_scale": 1.0}, anneal=True,
    ),
}  # fmt: skip
_SPACE = {
    "learning_rate": "log_uniform(1e-4, 1e-2)",
    "gae_lambda": "uniform(0.9, 1.0)",
    "clip_epsilon": "uniform(0.1, 0.4)",
    "entropy_coef": "log_uniform(1e-4, 3e-2)",
    "value_coef": "uniform(0.25, 1.0)",
}


def _build(env: types.Env, preset: Preset) -> types.Agent:
    return purerl.ppo(purerl.networks.actor_critic(env, **preset.network), **preset.agent)


ENTRY: Algorithm = Algorithm(
    "proximal policy optimisation", _build, lambda: purerl.PPOHparams, _PRESETS, _SPACE, fast=_FAST
)
