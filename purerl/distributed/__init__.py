"""One program on several devices, of one machine or of many; see `distributed.devices`."""

from purerl.distributed.devices import (
    data_parallel,
    from_main,
    initialize,
    is_main,
    num_parts,
    over_devices,
    population_sharding,
    to_host,
    use_all_cores,
    wait_for_all,
)

__all__ = [
    "data_parallel", "from_main", "initialize", "is_main", "num_parts", "over_devices", "population_sharding",
    "to_host", "use_all_cores", "wait_for_all",
]  # fmt: skip
