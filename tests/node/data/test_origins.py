"""Where images are public is kept, within a bound. Spec: specs/registries.md#providers."""

import pytest

from node.data import origins as origins_module
from node.data.origins import Origins
from protocol.values.ids import digest_of

ONE, TWO = digest_of(b"1"), digest_of(b"2")


async def test_kept_and_bounded(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins_module, "ORIGINS_MAX", 1)
    path = tmp_path / "origins.json"
    origins = Origins(path)
    assert origins.source_of(ONE) == ""
    await origins.record(ONE, "docker.io/library/one")
    await origins.record(ONE, "docker.io/library/one")
    assert Origins(path).source_of(ONE) == "docker.io/library/one"
    await origins.record(TWO, "ghcr.io/a/two")
    assert (origins.source_of(ONE), origins.source_of(TWO)) == ("", "ghcr.io/a/two")


@pytest.mark.parametrize("text", ["", "{", "[1]"])
async def test_a_damaged_file_is_written_anew(tmp_path, caplog, text: str) -> None:
    path = tmp_path / "origins.json"
    path.write_text(text)
    origins = Origins(path)
    assert "is damaged" in caplog.text
    await origins.record(ONE, "a.b/c")
    assert Origins(path).source_of(ONE) == "a.b/c"
