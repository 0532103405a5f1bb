"""One update of each agent of `purerl.rlhf` against its loss written out token by token in float64."""

import checks_rlhf
import pytest

from purerl.rlhf import direct, group_policy, importance_policy, policy, reward_models, supervised

MODULES = {
    **dict.fromkeys(("ppo", "ppo_with_kl_in_the_loss", "ppo_in_turns", "adaptive_beta"), policy),
    **dict.fromkeys(("rloo", "grpo", "dapo", "two_sided_clip", "grpo_in_any_order"), group_policy),
    **dict.fromkeys(("reward_model", "reward_model_of_rankings"), reward_models),
    **dict.fromkeys(("gspo", "cispo"), importance_policy),
    **dict.fromkeys(("direct_alignment", "aot_unpaired_agent", "kto_agent", "bco_agent"), direct),
    **dict.fromkeys(("sft", "microbatches"), supervised),
}


@pytest.mark.parametrize("name", MODULES)
def test_an_update_descends_on_the_loss_written_out(name):
    getattr(checks_rlhf, f"check_{name}")(MODULES[name])


def test_every_check_is_run():
    assert set(MODULES) == {name.removeprefix("check_") for name in vars(checks_rlhf) if name.startswith("check_")}
