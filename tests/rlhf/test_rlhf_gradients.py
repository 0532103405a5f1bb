"""One update of each agent of `purerl.rlhf` against its loss written out token by token in float64."""

import checks_rlhf
import pytest

from purerl.rlhf import direct, policy, supervised

POLICY = ("ppo", "ppo_with_kl_in_the_loss", "rloo", "grpo", "dapo")
DIRECT = ("sft", "reward_model", "direct_alignment", "kto_agent")
MODULES = dict.fromkeys(POLICY, policy) | dict.fromkeys(DIRECT, direct) | {"microbatches": supervised}


@pytest.mark.parametrize("name", MODULES)
def test_an_update_descends_on_the_loss_written_out(name):
    getattr(checks_rlhf, f"check_{name}")(MODULES[name])


def test_every_check_is_run():
    assert set(MODULES) == {name.removeprefix("check_") for name in vars(checks_rlhf) if name.startswith("check_")}
