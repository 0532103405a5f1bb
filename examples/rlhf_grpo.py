"""GRPO on tokens with a programmatic reward: groups of completions of one prompt replace the value network."""

import jax
import jax.numpy as jnp

import purerl
from purerl import rlhf

EOS, PAD, VOCAB, LENGTH, GROUP = 0, 1, 12, 8, 8
prompts = jnp.arange(2, VOCAB)[:, None]  # one letter each


def reward(tokens, completion):
    """Number of letters of the completion that follow their left neighbour in the alphabet."""
    return jnp.sum((tokens[1:] == tokens[:-1] + 1) & completion[1:]).astype(jnp.float32)


network = rlhf.transformer(VOCAB, width=32, depth=1)
env = rlhf.token_env(prompts, reward, LENGTH, EOS, PAD, vocab_size=VOCAB)
agent = rlhf.grpo(network)
state, metrics = purerl.train(
    jax.random.key(0), agent, env, rlhf.RLHFHparams(learning_rate=3e-3, beta=0.02),
    num_updates=80, num_envs=128, rollout_length=LENGTH,
    rollout=rlhf.token_rollout(network, eos_id=EOS, pad_id=PAD, group_size=GROUP),
)  # fmt: skip
for update in (0, 19, 39, 79):
    print(f"update {update + 1}: reward {metrics['rlhf/reward'][update]:.2f}, KL {metrics['rlhf/kl'][update]:.2f} nats")

answer = rlhf.generate(None, network, state.params, prompts[:3], max_length=LENGTH, eos_id=EOS, pad_id=PAD)
print("greedy:", [f"{int(p[0])} -> {a.tolist()}" for p, a in zip(prompts, answer.tokens)])
