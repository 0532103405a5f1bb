"""The example's reward: the share of kind words, for `purerl grpo --reward rewards:kindness`."""

from make_data import kindness as kindness_of


def kindness(prompts, completions, **columns):
    """The kindness of each completion."""
    return [kindness_of(text) for text in completions]
