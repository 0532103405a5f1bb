"""A reward model from pairs, and best-of-n with it; the labeller is a program, as in RLAIF."""

from purerl.experiments import language

road = language.Road(seed=0, sizes=language.quick(language.Sizes()))
sft = road.sft()
pairs = road.pairs(sft, rows=2_000, stream=6)
reward_params, _ = road.reward_model(sft, pairs)
road.evaluate("sft", sft, sft, reward_params)
road.best_of_n(sft, reward_params, n=4)
road.best_of_n(sft, reward_params, n=16)
