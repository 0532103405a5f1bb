"""Pictures of a search as matplotlib figures, without pyplot: no global state and no window.

The colours are those of Okabe and Ito, which are distinct for colour-blind readers too.
"""

from purerl.plots.coordinates import parallel_coordinates
from purerl.plots.curves import learning_curves, sweep_figure
from purerl.plots.fronts import pareto
from purerl.plots.landscapes import landscape, parameters
from purerl.plots.lineage import family
from purerl.plots.ranks import rank_stability, ranking
from purerl.plots.runs import training_curves
from purerl.plots.style import COLORS
from purerl.plots.trust import optimism, robustness

__all__ = [
    "COLORS",
    "family",
    "landscape",
    "learning_curves",
    "optimism",
    "parallel_coordinates",
    "parameters",
    "pareto",
    "rank_stability",
    "ranking",
    "robustness",
    "sweep_figure",
    "training_curves",
]
