"""KTO: single answers with a thumb up or down instead of pairs; the initial model is the reference."""

import jax
import numpy as np

import purerl
from purerl import rlhf

sounds = {"cat": "meow", "dog": "woof", "cow": "moo", "owl": "hoot"}
cases = [(animal, sound) for animal in sounds for sound in sounds.values()]
rows = {
    "prompt": [f"{animal} says " for animal, _ in cases],
    "completion": [sound for _, sound in cases],
    "label": [sounds[animal] == sound for animal, sound in cases],
}

tokenizer = rlhf.ByteTokenizer()
layout = rlhf.Layout(tokenizer, prompt_length=9, max_length=6, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id)
network = rlhf.transformer(tokenizer.vocab_size, width=32, depth=1)
data = rlhf.encode_labelled(rows, layout)
start = network.init(jax.random.key(0), data["tokens"][0], data["mask"][0])
data = rlhf.with_reference(network, start, data)

agent = rlhf.kto(network, desirable_weight=3.0)  # three thumbs down for each one up
hparams = rlhf.LearnerHparams(learning_rate=3e-3, beta=0.1)
state = agent.init(jax.random.key(0), hparams, data)._replace(params=start)
state, _ = purerl.fit(jax.random.key(0), agent, data, hparams, num_updates=100, state=state)

gain = np.asarray(rlhf.log_probs(network, state.params, data) - data["ref_log_prob"])
print(
    f"log-probability gained: thumbs up {gain[data['label']].mean():.1f}, down {gain[~data['label']].mean():.1f} nats"
)
