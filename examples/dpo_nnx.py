"""DPO on a flax NNX model of your own: nothing of purerl but the loss, the log-probabilities and the reference."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from purerl import losses


class Model(nnx.Module):
    """Any model from tokens [B, W] to logits [B, W, V]."""

    def __init__(self, rngs, vocab_size=12, width=32):
        self.embed = nnx.Embed(vocab_size, width, rngs=rngs)
        self.mix = nnx.Linear(2 * width, width, rngs=rngs)
        self.head = nnx.Linear(width, vocab_size, rngs=rngs)

    def __call__(self, tokens):
        """Each position sees its own token and the one before."""
        x = self.embed(tokens)
        before = jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0)))
        return self.head(nnx.gelu(self.mix(jnp.concatenate([x, before], axis=-1))))


def log_probs(model, texts):
    return losses.sequence_log_probs(model(texts["tokens"]), texts["tokens"], texts["completion"])


@nnx.jit
def step(model, optimizer, chosen, rejected, reference):
    def loss(model):
        pair = log_probs(model, chosen), log_probs(model, rejected)
        return jnp.mean(losses.dpo(*pair, *reference, beta=0.1))

    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value


# Texts of 8 tokens, the first 3 a prompt; the one that counts upwards is preferred to random tokens.
key = jax.random.key(0)
start = jax.random.randint(key, (64, 1), 0, 12)
upwards = (start + jnp.arange(8)) % 12
noise = jnp.concatenate([upwards[:, :3], jax.random.randint(key, (64, 5), 0, 12)], axis=1)
completion = jnp.broadcast_to(jnp.arange(8) >= 3, upwards.shape)
chosen, rejected = ({"tokens": tokens, "completion": completion} for tokens in (upwards, noise))

model = Model(nnx.Rngs(0))
reference = log_probs(model, chosen), log_probs(model, rejected)  # once: they never change
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
history = [float(step(model, optimizer, chosen, rejected, reference)) for _ in range(60)]
accuracy = jnp.mean(log_probs(model, chosen) - reference[0] > log_probs(model, rejected) - reference[1])
print(f"loss {history[0]:.3f} -> {history[-1]:.3f}, accuracy {accuracy:.2f}")
