"""Learning from preferences with language models: generation, fine-tuning, reward models, policy gradients, data."""

from purerl.rlhf.data import (
    ByteTokenizer,
    Layout,
    encode_completions,
    encode_labelled,
    encode_pairs,
    encode_prompts,
    find_problems,
)
from purerl.rlhf.direct import (
    DIRECT_LOSSES,
    direct_alignment,
    kto,
    log_probs,
    reward_model,
    rewards,
    sft,
    with_reference,
)
from purerl.rlhf.generation import Completions, best_of_n, generate, token_rollout
from purerl.rlhf.models import Network, from_nnx, table_network
from purerl.rlhf.policy import PolicyState, RLHFHparams, grpo, initial_state, ppo, rloo
from purerl.rlhf.supervised import LearnerHparams, learner
from purerl.rlhf.tokens import TokenState, token_env
from purerl.rlhf.transformer import LanguageModel, transformer
from purerl.rlhf.weights import load_weights, save_weights

__all__ = [
    "DIRECT_LOSSES",
    "ByteTokenizer",
    "Completions",
    "LanguageModel",
    "Layout",
    "LearnerHparams",
    "Network",
    "PolicyState",
    "RLHFHparams",
    "TokenState",
    "best_of_n",
    "direct_alignment",
    "encode_completions",
    "encode_labelled",
    "encode_pairs",
    "encode_prompts",
    "find_problems",
    "from_nnx",
    "generate",
    "grpo",
    "initial_state",
    "kto",
    "learner",
    "load_weights",
    "log_probs",
    "ppo",
    "reward_model",
    "rewards",
    "rloo",
    "save_weights",
    "sft",
    "table_network",
    "token_env",
    "token_rollout",
    "transformer",
    "with_reference",
]
