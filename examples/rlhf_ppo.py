"""PPO on tokens against a programmatic reward, with a KL penalty to the initial model in the reward."""

import jax
import jax.numpy as jnp

import purerl
from purerl import rlhf

EOS, PAD, VOCAB, LENGTH = 0, 1, 12, 8
prompts = jnp.arange(2, VOCAB)[:, None]  # one letter each


def reward(tokens, completion):
    """Number of times that the completion repeats the prompt's letter."""
    return jnp.sum((tokens == tokens[0]) & completion).astype(jnp.float32)


network = rlhf.transformer(VOCAB, width=32, depth=1)
env = rlhf.token_env(prompts, reward, LENGTH, EOS, PAD, vocab_size=VOCAB)
agent = rlhf.ppo(network, num_epochs=2, num_minibatches=2)
hparams = rlhf.RLHFHparams(learning_rate=2e-3, beta=0.05)

state, metrics = purerl.train(
    jax.random.key(0), agent, env, hparams, num_updates=60, num_envs=64, rollout_length=LENGTH,
    rollout=rlhf.token_rollout(network, eos_id=EOS, pad_id=PAD),
)  # fmt: skip
for update in (0, 19, 39, 59):
    print(f"update {update + 1}: reward {metrics['rlhf/reward'][update]:.2f}, KL {metrics['rlhf/kl'][update]:.2f} nats")
