"""Fine-tuning with LoRA in an optax loop of your own, on any network: here a small transformer of purerl's."""

import jax
import jax.numpy as jnp
import optax

from purerl import rlhf
from purerl.lm import lora
from purerl.rlhf.columns import log_probs

network = rlhf.transformer(vocab_size=12, width=32, depth=1)
tokens = (jax.random.randint(jax.random.key(0), (64, 1), 0, 12) + jnp.arange(8)) % 12  # texts that count upwards
data = {"tokens": tokens, "mask": tokens >= 0, "completion": jnp.broadcast_to(jnp.arange(8) >= 1, tokens.shape)}

base = network.init(jax.random.key(1), tokens[0], data["mask"][0])
factors = lora.init(jax.random.key(2), base, rank=4, targets="kernel")
optimizer = optax.adam(3e-2)


def loss(factors, base):
    adapted = lora.adapted(network, base, scale=2.0)  # a network of the factors alone
    return -jnp.sum(log_probs(adapted, factors, data)) / jnp.sum(data["completion"])


@jax.jit
def step(factors, opt_state, base):
    value, grads = jax.value_and_grad(loss)(factors, base)
    updates, opt_state = optimizer.update(grads, opt_state)
    return optax.apply_updates(factors, updates), opt_state, value


opt_state = optimizer.init(factors)
history = []
for _ in range(40):
    factors, opt_state, value = step(factors, opt_state, base)
    history.append(float(value))
merged = lora.merge(base, factors, scale=2.0)
print(f"loss {history[0]:.3f} -> {history[-1]:.3f}; merged: {-jnp.mean(log_probs(network, merged, data)) / 7:.3f}")
