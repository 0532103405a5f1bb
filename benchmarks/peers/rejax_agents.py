"""The agents of rejax that workers time, made as the presets of purerl they stand beside."""

import rejax


def cartpole_ppo(num_envs: int, rollout_length: int, num_updates: int, **hparams) -> rejax.PPO:
    """rejax's PPO on CartPole with two layers of 64, four epochs of four minibatches, and no evaluation on the way."""
    num_steps = num_envs * rollout_length * num_updates
    return rejax.PPO.create(
        env="CartPole-v1",
        num_envs=num_envs,
        num_steps=rollout_length,
        num_epochs=4,
        num_minibatches=4,
        total_timesteps=num_steps,
        eval_freq=num_steps,
        skip_initial_evaluation=True,
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
        **hparams,
    ).replace(eval_callback=lambda *_: ())
