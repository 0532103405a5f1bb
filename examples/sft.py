"""Supervised fine-tuning on text: a small GPT learns to answer, with the prompts masked in the loss."""

import jax
import jax.numpy as jnp

import purerl
from purerl import rlhf
from purerl.combinators.minibatches import with_minibatches

animals = ["cat", "dog", "cow", "owl"]
sounds = ["meow", "woof", "moo", "hoot"]
rows = {"prompt": [f"{a} says " for a in animals], "completion": sounds}

tokenizer = rlhf.ByteTokenizer()
layout = rlhf.Layout(tokenizer, prompt_length=9, max_length=6, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id)
data = rlhf.encode_completions(rows, layout)

network = rlhf.transformer(tokenizer.vocab_size, width=32, depth=1)
agent = with_minibatches(rlhf.sft(network), batch_size=8)
state, metrics = purerl.fit(jax.random.key(0), agent, data, rlhf.LearnerHparams(3e-3), num_updates=200)
print(f"loss: {metrics['loss/total'][0]:.2f} -> {metrics['loss/total'][-1]:.2f} nats per token")

prompts = jnp.asarray(rlhf.encode_prompts(rows["prompt"], layout))
answers = rlhf.generate(
    None, network, state.agent.params, prompts, max_length=6, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id
)
for prompt, answer in zip(rows["prompt"], answers.tokens):
    print(prompt + tokenizer.decode(answer))

rlhf.save_weights("/tmp/sft.safetensors", state.agent.params)
