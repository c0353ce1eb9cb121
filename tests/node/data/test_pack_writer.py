"""The same folder gives the same bytes; a changed file is noticed. Spec: specs/inputs.md#packs."""

import io
import tarfile
from pathlib import Path

import pytest

from node.data.pack_writer import (
    MTIME,
    PackEntry,
    pack_chunks,
    pack_size,
    stays_inside,
)
from protocol.values.errors import InvalidRequest

LONG = "d" * 60 + "/" + "f" * 80
ENTRIES = (
    PackEntry("d" * 60, "folder"),
    PackEntry(LONG, "file", 3),
    PackEntry("empty", "folder"),
    PackEntry("link", "symbolic link", link="tool"),
    PackEntry("tool", "file", 600, executable=True),
    PackEntry("é", "file"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ("d" * 60)).mkdir()
    (tmp_path / LONG).write_bytes(b"abc")
    (tmp_path / "tool").write_bytes(b"#" * 600)
    (tmp_path / "é").touch()
    return tmp_path


def test_it_is_a_tar_of_known_size_without_times_and_owners(folder: Path) -> None:
    data = b"".join(pack_chunks(ENTRIES, folder))
    assert len(data) == pack_size(ENTRIES)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = archive.getmembers()
        assert [each.name for each in found] == [each.path for each in ENTRIES]
        assert [each.mode for each in found] == [0o755, 0o644, 0o755, 0o777, 0o755, 0o644]
        assert {(each.mtime, each.uid, each.gid, each.uname) for each in found} == {
            (MTIME, 0, 0, "")
        }
        assert archive.extractfile("tool").read() == b"#" * 600  # type: ignore[union-attr]
        assert archive.getmember("link").linkname == "tool"


@pytest.mark.parametrize("entry", [
    PackEntry("a/b", "file", 5, executable=True), PackEntry("f", "folder"),
    PackEntry("l", "symbolic link", link="a/b"), PackEntry("n" * 100, "file"),
])  # fmt: skip
def test_a_header_is_that_of_tarfile(entry: PackEntry, tmp_path: Path) -> None:
    info = tarfile.TarInfo(entry.path)
    info.type = {"file": b"0", "folder": b"5", "symbolic link": b"2"}[entry.kind]
    info.mode = {"a/b": 0o755, "f": 0o755, "l": 0o777}.get(entry.path, 0o644)
    info.size, info.mtime, info.linkname = entry.size, MTIME, entry.link
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(b"12345")
    (tmp_path / ("n" * 100)).touch()
    assert b"".join(pack_chunks([entry], tmp_path))[:512] == info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize("data", [b"#" * 599, b"#" * 601])
def test_a_file_of_another_size_is_refused(folder: Path, data: bytes) -> None:
    (folder / "tool").write_bytes(data)
    with pytest.raises(InvalidRequest, match="tool changed while it was read"):
        list(pack_chunks(ENTRIES, folder))


def test_a_file_that_became_a_link_is_not_followed(folder: Path) -> None:
    (folder / "tool").unlink()
    (folder / "tool").symlink_to(LONG)
    with pytest.raises(OSError, match="symbolic links"):
        list(pack_chunks(ENTRIES, folder))


@pytest.mark.parametrize(
    "path, link, inside",
    [
        ("a", "b", True), ("d/a", "../b", True), ("d/a", "..", True), ("a", "d/../b", True),
        ("a", "../b", False), ("d/a", "../../b", False), ("a", "/b", False), ("a", "", False),
        ("a", "..", False), ("a", "..b", True),
    ],
)  # fmt: skip
def test_links_that_stay_inside(path: str, link: str, *, inside: bool) -> None:
    assert stays_inside(path, link) == inside
