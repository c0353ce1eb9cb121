"""A pack becomes the folder that it was, and a hostile one becomes nothing.

Spec: specs/inputs.md#packs.
"""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import trio

from node.data.layers import ENTRY_BYTES, Allowance
from node.data.pack_reader import unpack_pack
from node.data.pack_writer import PackEntry, pack_chunks
from protocol.values.errors import InvalidRequest
from protocol.values.ids import digest_of


async def unpacked(data: bytes, folder: Path, **allowed: Any) -> Path:
    """Unpack a pack to folder/target, beside which nothing is left."""
    blob, target = folder / "blob", folder / "roots" / "target"
    blob.write_bytes(data)
    allowance = Allowance(what="the pack", **allowed)
    await trio.to_thread.run_sync(unpack_pack, digest_of(data), blob, target, allowance)
    return target


async def test_what_was_packed_is_there_again(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d" / "deep").mkdir(parents=True)
    (source / "d" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (source / "d" / "text").write_bytes(b"x" * 3_000_000)
    entries = [
        PackEntry("d", "folder"),
        PackEntry("d/.wh.a", "symbolic link", link="text"),
        PackEntry("d/deep", "folder"),
        PackEntry("d/run.sh", "file", 10, executable=True),
        PackEntry("d/text", "file", 3_000_000),
    ]
    umask = os.umask(0o077)
    try:
        target = await unpacked(b"".join(pack_chunks(entries, source)), tmp_path)
    finally:
        os.umask(umask)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == [
        "d", "d/.wh.a", "d/deep", "d/run.sh", "d/text",
    ]  # fmt: skip
    assert (target / "d/.wh.a").read_bytes() == b"x" * 3_000_000
    modes = {name: stat.S_IMODE((target / name).stat().st_mode) for name in ("", "d", "d/run.sh")}
    assert modes == {"": 0o755, "d": 0o755, "d/run.sh": 0o755}
    assert stat.S_IMODE((target / "d/text").stat().st_mode) == 0o644
    assert [path.name for path in (tmp_path / "roots").iterdir()] == ["target"]


HOSTILE = {
    "absolute": ([("/etc/x", b"x")], "a path that is not allowed"),
    "climbing": ([("../x", b"x")], "a path that is not allowed"),
    "climbing later": ([("d", "DIRTYPE"), ("d/../../x", b"x")], "a path that is not allowed"),
    "itself": ([("./", "DIRTYPE")], "a path that is not allowed"),
    "too deep": ([("/".join("d" * 200), b"x")], "a path that is not allowed"),
    "absolute link": ([("l", "SYMTYPE /etc/passwd")], "leads out of it"),
    "climbing link": ([("l", "SYMTYPE ../x")], "leads out of it"),
    "over a link": ([("d", "DIRTYPE"), ("l", "SYMTYPE d"), ("l/x", b"x")], "Too many levels"),
    "twice": ([("a", b"1"), ("a", b"2")], "File exists"),
    "over a link's name": ([("a", b"1"), ("l", "SYMTYPE a"), ("l", b"2")], "File exists"),
    "without its folder": ([("d/x", b"x")], "No such file"),
    "below a file": ([("a", b"1"), ("a/x", b"x")], "Not a directory"),
    "hard link": ([("a", b"1"), ("b", "LNKTYPE a")], "has a hard link 'b'"),
    "device": ([("null", "CHRTYPE", {"devmajor": 1, "devminor": 3})], "has a character device"),
    "fifo": ([("pipe", "FIFOTYPE")], "has a fifo"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_pack_is_refused(tmp_path: Path, tar, name: str) -> None:
    entries, why = HOSTILE[name]
    with pytest.raises(InvalidRequest, match=why):
        await unpacked(tar(*entries), tmp_path)
    assert list((tmp_path / "roots").iterdir()) == []
    assert not (tmp_path / "x").exists()


async def test_no_bit_gives_another_user(tmp_path: Path, tar) -> None:
    target = await unpacked(tar(("tool", b"x", {"mode": 0o6777})), tmp_path)
    assert stat.S_IMODE((target / "tool").stat().st_mode) == 0o755


async def test_bytes_and_entries_are_bounded(tmp_path: Path, tar) -> None:
    data = tar(("a", b"x"), ("b", b"x"))
    with pytest.raises(InvalidRequest, match="the pack has more than 1 files"):
        await unpacked(data, tmp_path, entries_max=1)
    with pytest.raises(InvalidRequest, match="the pack unpacks to more than"):
        await unpacked(data, tmp_path, bytes_max=2 * ENTRY_BYTES)
    assert list((tmp_path / "roots").iterdir()) == []


async def test_a_damaged_blob_is_found(tmp_path: Path, tar) -> None:
    blob, target = tmp_path / "blob", tmp_path / "target"
    blob.write_bytes(tar(("a", b"x")))
    with pytest.raises(InvalidRequest, match="is damaged"):
        await trio.to_thread.run_sync(
            unpack_pack, digest_of(b"other"), blob, target, Allowance(what="the pack")
        )
    assert not target.exists()
