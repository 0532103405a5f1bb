"""Learning from preferences in control: reward ensembles, and reward learning from comparisons and clicks."""

from purerl.agents.common.optimization import AdamHparams
from purerl.preferences.clicks import (
    BiasCurve,
    ClickPairs,
    Impressions,
    alignment,
    bias_curve,
    examination,
    linear_scorer,
    show,
    to_pairs,
)
from purerl.preferences.control import (
    ControlResult,
    ControlSizes,
    Round,
    Segments,
    ask,
    learn_from_preferences,
    segments,
    steps_of,
)
from purerl.preferences.reward_ensemble import (
    Comparisons,
    LearnedReward,
    Scaling,
    WatchedState,
    apply_member,
    ensemble_agent,
    features,
    fit_reward,
    init_member,
    learned_reward,
    scaling,
    with_learned_reward,
)

__all__ = [
    "AdamHparams", "BiasCurve", "ClickPairs", "Comparisons", "ControlResult", "ControlSizes", "Impressions",
    "LearnedReward", "Round", "Scaling", "Segments", "WatchedState", "alignment", "apply_member", "ask", "bias_curve",
    "ensemble_agent", "examination", "features", "fit_reward", "init_member", "learn_from_preferences",
    "learned_reward", "linear_scorer", "scaling", "segments", "show", "steps_of", "to_pairs", "with_learned_reward",
]  # fmt: skip
