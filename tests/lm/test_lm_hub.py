"""Damaged files of a model directory, which are refused before the extra is needed."""

import pytest

from purerl.lm import hub


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "index.json is not valid JSON"),
        ("[1]", "index.json is not a JSON object"),
        ("{}", "index.json: weight_map must be a table of files by weight, found None"),
        ('{"weight_map": {"w": 3}}', "index.json: weight_map must be a table of files by weight"),
    ],
)
def test_a_damaged_index_of_shards_is_named(tmp_path, content, message):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        hub.load(tmp_path)
