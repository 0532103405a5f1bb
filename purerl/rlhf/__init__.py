"""Learning from preferences with language models: generation, fine-tuning, reward models, policy gradients, data."""

from purerl.rlhf.columns import log_probs, with_reference
from purerl.rlhf.data import (
    encode_completions,
    encode_labelled,
    encode_pairs,
    encode_prompts,
    encode_rankings,
)
from purerl.rlhf.direct import DIRECT_LOSSES, DirectLoss, bco, direct_alignment, kto
from purerl.rlhf.generation import Completions, best_of_n, generate
from purerl.rlhf.group_policy import grpo, rloo
from purerl.rlhf.importance_policy import cispo, gspo
from purerl.rlhf.models import Network, from_nnx, table_network
from purerl.rlhf.policy import PolicyState, RLHFHparams, initial_state, ppo
from purerl.rlhf.reward_models import RANKING_LOSSES, reward_model, rewards
from purerl.rlhf.rollouts import Prompt, token_rollout
from purerl.rlhf.rows import ByteTokenizer, Layout, find_problems
from purerl.rlhf.supervised import LearnerHparams, learner, sft
from purerl.rlhf.tokens import Conversation, TokenState, token_env
from purerl.rlhf.transformer import LanguageModel, transformer
from purerl.rlhf.weights import load_weights, save_weights

__all__ = [
    "DIRECT_LOSSES", "RANKING_LOSSES", "ByteTokenizer", "Completions", "Conversation", "DirectLoss", "LanguageModel",
    "Layout", "LearnerHparams", "Network", "PolicyState", "Prompt", "RLHFHparams", "TokenState", "bco", "best_of_n",
    "cispo", "direct_alignment", "encode_completions", "encode_labelled", "encode_pairs", "encode_prompts",
    "encode_rankings", "find_problems", "from_nnx", "generate", "grpo", "gspo", "initial_state", "kto", "learner",
    "load_weights", "log_probs", "ppo", "reward_model", "rewards", "rloo", "save_weights", "sft", "table_network",
    "token_env", "token_rollout", "transformer", "with_reference",
]  # fmt: skip
