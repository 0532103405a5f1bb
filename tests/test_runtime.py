"""Compiled programs on disk: entries are whole, and a damaged one is replaced."""

import jax
import pytest
from jax._src.lru_cache import LRUCache

from purerl import runtime


@pytest.fixture
def cache(tmp_path):
    runtime.write_programs_whole()
    return LRUCache(str(tmp_path), max_size=-1)


def test_a_damaged_entry_is_replaced_once_its_program_is_compiled_again(cache):
    (cache.path / "program-cache").write_bytes(b"half of a pro")
    cache.put("program", b"half of a program, and the other half")
    assert cache.get("program") == b"half of a program, and the other half"
    assert [path.name for path in cache.path.iterdir()] == ["program-cache"]


def test_an_entry_whose_writing_ends_half_way_does_not_exist(cache, monkeypatch):
    write = type(cache.path).write_bytes

    def stop_half_way(path, data):
        write(path, data[: len(data) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(type(cache.path), "write_bytes", stop_half_way)
    with pytest.raises(OSError, match="No space"):
        cache.put("program", b"a program")
    assert cache.get("program") is None
    assert not list(cache.path.iterdir())


def test_the_entries_of_a_bounded_cache_are_written_by_jax(monkeypatch):
    monkeypatch.setattr(LRUCache, "put", of_jax := lambda *entry: None)
    jax.config.update("jax_compilation_cache_max_size", 1000)
    try:
        runtime.write_programs_whole()
    finally:
        jax.config.update("jax_compilation_cache_max_size", -1)
    assert LRUCache.put is of_jax
