"""The commands of `purerl`: one module each, with a frozen dataclass `Options` and `run(options) -> None`.

The modules import nothing heavy outside `run`, so that `purerl --help` answers at once.
"""
