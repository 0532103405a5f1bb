import pytest

from purerl.sweep.run import blocks


@pytest.mark.parametrize(
    ("num_agents", "block_size", "num_devices", "shape"),
    [(10, 8, 4, (2, 8)), (10, 8, 1, (2, 5)), (3, 8, 4, (1, 3)), (16, 6, 4, (4, 4))],
)
def test_the_width_of_blocks_is_a_multiple_of_the_devices_if_there_are_as_many_agents(
    num_agents, block_size, num_devices, shape
):
    assert blocks.split_agents(num_agents, block_size, num_devices).shape == shape
