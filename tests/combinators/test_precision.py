"""One switch for the precision of every matrix product of an agent."""

import re

import jax
import pytest
from agent_cases import CASES, SIZES, built

import purerl
from purerl.combinators import with_precision

HIGH = "(Precision.HIGH, Precision.HIGH)"


def precisions(agent, name):
    """Of the matrix products in a training program: text of a jaxpr, in which no product is left unnamed."""
    case, env = CASES[name], built(name)[1]
    run = jax.make_jaxpr(lambda key: purerl.train(key, agent, env, case.hparams, **SIZES, rollout=case.rollout))
    text = str(run(jax.random.key(0)))
    return re.findall(r"dot_general\[(?:[^\[\]]|\[[^\]]*\])*?precision=([^\n\]]*)", text), text.count("dot_general[")


@pytest.mark.parametrize("name", ["dqn, prioritized, quantile, noisy, dueling", "sac"])
def test_it_reaches_every_product_of_every_network(name):
    found, number = precisions(with_precision(built(name)[0], "tensorfloat32"), name)
    assert len(found) == number > 0
    asked = {each for each in found if "HIGHEST" not in each}  # sums of priorities and initial weights stay exact
    assert asked <= {HIGH, "tensorfloat32"}
    assert HIGH in asked


def test_without_it_nothing_is_asked_for():
    found, number = precisions(built("sac")[0], "sac")
    assert len(found) < number
    assert set(found) <= {"None", "(Precision.HIGHEST, Precision.HIGHEST)"}  # orthogonal initial weights stay exact


def test_an_unknown_precision_is_named():
    with pytest.raises(ValueError, match="precision must be one of float32, tensorfloat32, bfloat16; got 'half'"):
        with_precision(built("sac")[0], "half")
