import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.prng import permutation


@pytest.mark.parametrize("n", [1, 2, 7, 255, 512, 600, 7919, 65536])
def test_it_is_a_permutation(n):
    assert np.array_equal(np.sort(permutation(jax.random.key(1), n)), np.arange(n))


def test_it_vmaps_and_the_same_key_gives_the_same_order():
    keys = jax.random.split(jax.random.key(0), 4)
    many = jax.vmap(lambda k: permutation(k, 512))(keys)
    for key, row in zip(keys, many):
        np.testing.assert_array_equal(permutation(key, 512), row)
    assert len({tuple(np.asarray(row)) for row in many}) == 4


@pytest.mark.parametrize("n", [512, 600])
def test_positions_pairs_and_minibatch_membership_look_uniform(n):
    """Chi-square of positions and of differences at several lags, and the hypergeometric variance of membership."""
    repeats = 4000
    orders = np.asarray(jax.jit(jax.vmap(lambda k: permutation(k, n)))(jax.random.split(jax.random.key(7), repeats)))
    blocks = 8
    width = n // blocks
    # where elements of each block of indices land, by block
    table = np.stack(
        [np.bincount(orders[:, b * width : (b + 1) * width].ravel() // width, minlength=blocks) for b in range(blocks)]
    )
    expected = repeats * width / blocks
    # without replacement within a permutation the count's variance is below Poisson's, so this is conservative
    assert np.abs(table - expected).max() < 5 * np.sqrt(expected)
    one_place = np.stack([np.bincount(orders[:, i], minlength=n) for i in (0, 1, n // 2, n - 1)])
    chi_square = ((one_place - repeats / n) ** 2 / (repeats / n)).sum(1)
    assert np.all(np.abs(chi_square - (n - 1)) < 6 * np.sqrt(2 * (n - 1)))
    for lag in (1, 2, 3, 23, n // 4):
        gaps = (np.roll(orders, -lag, axis=1) - orders) % n
        counts = np.bincount(gaps.ravel(), minlength=n)[1:]
        mean = repeats * n / (n - 1)
        assert abs(((counts - mean) ** 2 / mean).sum() - (n - 2)) < 8 * np.sqrt(2 * (n - 2)), lag
    # how many of the first half of the indices fall into the first minibatch of four: hypergeometric
    members = (orders[:, : n // 4] < n // 2).sum(1)
    variance = (n / 4) * 0.25 * (1 - 1 / 4) * n / (n - 1)
    assert abs(members.mean() - n / 8) < 5 * np.sqrt(variance / repeats)
    assert abs(members.var() / variance - 1) < 6 * np.sqrt(2 / repeats)


def test_no_sort_in_the_program():
    assert "sort" not in jax.jit(permutation, static_argnums=1).lower(jax.random.key(0), 65536).as_text()
    assert jnp.array_equal(permutation(jax.random.key(0), 257), jax.random.permutation(jax.random.key(0), 257))  # prime
