import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np

from purerl import distributed


def test_one_device_calls_the_function_itself():
    assert distributed.num_parts(5) == 1
    np.testing.assert_array_equal(
        distributed.over_devices(lambda x, y: x + y, (jnp.arange(4.0),), (1.0,)), [1, 2, 3, 4]
    )


PROGRAM = """
    import jax, jax.numpy as jnp, numpy as np
    from purerl import distributed
    distributed.num_cores = lambda: 4
    distributed.use_all_cores()
    assert jax.local_device_count() == 4
    assert [distributed.num_parts(w) for w in (8, 6, 5, 1)] == [4, 3, 1, 1]

    def walk(key, scale, shift):
        step = lambda x, k: (jnp.tanh(x @ x.T) * scale + shift + jax.random.normal(k, (4, 4)), x.sum())
        return jax.lax.scan(step, jnp.eye(4), jax.random.split(key, 5))

    rows = jax.vmap(walk, (0, 0, None))
    keys, scale = jax.random.split(jax.random.key(0), 8), jnp.arange(8.0)
    run = jax.jit(lambda k, s, shift: distributed.over_devices(rows, (k, s), (shift,)))
    spread = run(keys, scale, 0.5)
    assert len(spread[0].sharding.device_set) == 4
    parts = [jax.jit(rows)(keys[i : i + 2], scale[i : i + 2], 0.5) for i in range(0, 8, 2)]
    alone = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(spread), jax.device_get(alone))
    text = run.lower(keys, scale, 0.5).compile().as_text()
    assert "all-reduce" not in text and "all-gather" not in text
    print("equal")
"""


def test_four_devices_equal_one_at_the_same_local_width_without_talking():
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(PROGRAM)], capture_output=True, text=True, timeout=120)
    assert done.stdout == "equal\n", done.stderr
    assert jax.local_device_count() == 1
