"""The file of names is replaced as a whole, and a damaged one is told.

Spec: specs/data.md#names.
"""

from pathlib import Path

import pytest

from node.data.tags import check_name, load_tags, save_tags
from protocol.values.errors import InvalidRequest
from protocol.values.ids import digest_of


def test_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "tags.json"
    assert load_tags(path) == {}
    tags = {"base": digest_of(b"a"), "team/app:1.0": digest_of(b"b")}
    save_tags(path, tags)
    assert load_tags(path) == tags
    save_tags(path, {})
    assert load_tags(path) == {}
    assert [file.name for file in tmp_path.iterdir()] == ["tags.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"a b": ""}', '{"a": 1}', '{"a": "xyz"}', "\0"])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tags.json"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match="is damaged: remove it"):
        load_tags(path)


@pytest.mark.parametrize("name", ["", "-x", "a b", "x" * 256, "sha256:00", "a" * 12, "ä", "x\n"])
def test_no_name(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is not an image name"):
        check_name(name)
