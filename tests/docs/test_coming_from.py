"""What the page on other libraries says of their losses and names holds."""

import re

import chex
import code_blocks
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl import losses, returns

PAGE = (code_blocks.ROOT / "docs" / "coming_from.md").read_text()


def test_the_value_loss_of_stable_baselines3_is_value_coef_1_without_clipping():
    value, old_value, target = jnp.array([1.0, -2.0]), jnp.array([0.5, 9.0]), jnp.array([3.0, 0.5])
    hparams = purerl.PPOHparams(value_coef=1.0, value_clip_epsilon=float("inf"))
    here = losses.clipped_value(value, old_value, target, hparams.value_clip_epsilon).mean() * hparams.value_coef
    vf_coef, mse_loss = 0.5, np.mean((np.asarray(target) - np.asarray(value)) ** 2)
    chex.assert_trees_all_close(here, jnp.float32(vf_coef * mse_loss))


def rlax_rows():
    table = PAGE.partition("| rlax | here |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines()[2:]]


def functions(cell):
    return re.findall(r"`([a-z_0-9.]+)`", cell)


def test_functions_of_the_table_of_rlax_exist():
    rlax = pytest.importorskip("rlax")
    rows = [row for row in rlax_rows() if any(hasattr(rlax, name) for name in functions(row[0]))]
    assert len(rows) > 8
    assert [name for row in rows for name in functions(row[0]) if not hasattr(rlax, name)] == []


def test_functions_of_this_package_in_the_table_of_rlax_exist():
    names = [name for row in rlax_rows() for name in functions(row[1]) if name.startswith(("returns.", "losses."))]
    assert len(names) > 10
    modules = {"returns": returns, "losses": losses}
    assert [name for name in names if not hasattr(modules[name.split(".")[0]], name.split(".")[1])] == []


def test_the_advantages_of_rlax_are_those_of_shifted_values():
    rlax = pytest.importorskip("rlax")
    rng = np.random.default_rng(0)
    reward, values = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in (5, 6))
    discount, trace_decay = jnp.array([0.9, 0.0, 0.9, 0.9, 0.9]), jnp.array([0.8, 0.0, 0.8, 0.8, 0.8])
    theirs = rlax.truncated_generalized_advantage_estimation(reward, discount, trace_decay, values)
    here = returns.gae(reward, discount, values[:-1], values[1:], trace_decay)
    chex.assert_trees_all_close(here, theirs, atol=1e-5)
