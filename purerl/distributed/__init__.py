"""One program on several devices, of one machine or of many; see `distributed.devices` and `distributed.processes`."""

from purerl.distributed.devices import (
    connect_population,
    data_parallel,
    num_parts,
    over_devices,
    population_sharding,
    to_devices,
    to_host,
    use_all_cores,
    use_one_core,
)
from purerl.distributed.processes import from_main, initialize, is_main, wait_for_all

__all__ = [
    "connect_population", "data_parallel", "from_main", "initialize", "is_main", "num_parts", "over_devices",
    "population_sharding", "to_devices", "to_host", "use_all_cores", "use_one_core",
    "wait_for_all",
]  # fmt: skip
