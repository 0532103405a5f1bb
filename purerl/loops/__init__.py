"""The two loops, `train` and `fit`, how experience is collected, and evaluation. No agent is known by name here.

train:   state -> rollout -> update -> state -> ...      one `lax.scan` over updates
fit:     state -> update(the same data) -> state -> ...
"""

from purerl.loops.deployment import Policy, deploy
from purerl.loops.evaluation import Evaluation, evaluate
from purerl.loops.fitting import fit
from purerl.loops.rollouts import Actors, init_actors, rollout, rollout_episodes
from purerl.loops.training import LoopState, advance, start, train

__all__ = [
    "Actors", "Evaluation", "LoopState", "Policy", "advance", "deploy", "evaluate", "fit", "init_actors", "rollout",
    "rollout_episodes", "start", "train",
]  # fmt: skip
