"""Direct preference optimisation on pairs, from a supervised model that is also the reference."""

import jax

import purerl
from purerl import rlhf
from purerl.experiments import language

road = language.Road(seed=0, sizes=language.quick(language.Sizes()))
sft = road.sft()
pairs = road.pairs(sft, rows=2_000, stream=6)

data = rlhf.with_reference(road.network, sft, {name: pairs[name] for name in ("tokens", "mask", "completion")})
agent = rlhf.direct_alignment(road.network, "dpo")
hparams = rlhf.LearnerHparams(learning_rate=3e-4, beta=0.1)
state = agent.init(jax.random.key(0), hparams, data)._replace(params=sft)
state, metrics = purerl.fit(jax.random.key(0), agent, data, hparams, num_updates=30, state=state)

accuracy, margin = metrics["loss/accuracy"], metrics["loss/margin"]
print(f"pairs in the right order: {accuracy[0]:.2f} -> {accuracy[-1]:.2f}; margin {margin[-1]:.3f}")
