"""The two loops, `train` and `fit`, how experience is collected, and evaluation. No agent is known by name here.

train:   state -> rollout -> update -> state -> ...      one `lax.scan` over updates
fit:     state -> update(the same data) -> state -> ...
"""

from purerl.loops.actors import Actors, init_actors
from purerl.loops.chunked import Callback, Chunk, train_in_chunks
from purerl.loops.chunks import reduce_metrics, split_updates
from purerl.loops.deployment import Policy, deploy
from purerl.loops.evaluation import Evaluation, evaluate
from purerl.loops.fitting import fit
from purerl.loops.rollouts import Rollout, rollout, rollout_episodes
from purerl.loops.training import LoopState, advance, advance_up_to, start, train

__all__ = [
    "Actors", "Callback", "Chunk", "Evaluation", "LoopState", "Policy", "Rollout", "advance", "advance_up_to",
    "deploy", "evaluate", "fit", "init_actors", "reduce_metrics", "rollout", "rollout_episodes", "split_updates",
    "start", "train", "train_in_chunks",
]  # fmt: skip
