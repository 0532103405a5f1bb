"""Language models in Hugging Face's format: data, templates, models, LoRA, training, generation, weights.

Everything is a function over `(network, params, batch)`. Only `lm.models` needs the extra `purerl[lm]`, and only when a
model is built.
"""
