"""The tar reader agrees with the standard library on sane archives and refuses the others.

Spec: specs/data.md#tar.
"""

import io
import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.data.tar import EXTENSION_MAX, TarReader
from protocol.values.errors import InvalidRequest

KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
}
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def written(entries, layout=tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout) as archive:
        for info, data in entries:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def read(data: bytes):
    reader = TarReader(io.BytesIO(data))
    return [(entry, b"".join(iter(lambda: reader.read(7), b""))) for entry in reader]


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode, made.mtime = kind, link, 0o4751, 1234
    return made


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("name", ["a", "a/b", "d/" * 40 + "n" * 60, "é" * 20])
def test_names_modes_and_data(layout: int, name: str) -> None:
    ((entry, data),) = read(written([(info(name), b"x" * 1000)], layout))
    assert (entry.name, entry.kind, entry.mode, entry.mtime) == (name, "file", 0o4751, 1234)
    assert (entry.size, data) == (1000, b"x" * 1000)


@pytest.mark.parametrize("layout", FORMATS[1:])
def test_long_names_and_links(layout: int) -> None:
    name, link = "n" * 300, "l" * 300
    entries = [(info(name, tarfile.SYMTYPE, link), b""), (info("after"), b"data")]
    (first, _), (second, data) = read(written(entries, layout))
    assert (first.name, first.link, first.kind) == (name, link, "symbolic link")
    assert (second.name, data) == ("after", b"data")


@pytest.mark.parametrize("code", KINDS)
def test_all_kinds(code: bytes) -> None:
    ((entry, _),) = read(written([(info("x", code, "y"), b"")]))
    assert entry.kind == KINDS[code]


def test_unread_data_is_passed_over_by_reading_or_skipping() -> None:
    data = written([(info(str(n)), os.urandom(700 * n)) for n in range(5)])
    assert [entry.name for entry in TarReader(io.BytesIO(data))] == list("01234")
    file = io.BytesIO(data)
    reader = TarReader(file, lambda count: file.seek(count, 1))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [(e.name, reader.offset) for e in reader] == [
            (member.name, member.offset_data) for member in archive
        ]


def damaged(data: bytes, at: int, new: bytes) -> bytes:
    """Return an archive with another field in its first header, and the checksum right."""
    block = bytearray(data[:512])
    block[at : at + len(new)] = new
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


def pax_info(headers: dict[str, str]) -> tarfile.TarInfo:
    made = info("x")
    made.pax_headers = headers
    return made


PLAIN = written([(info("x"), b"data")], tarfile.GNU_FORMAT)
HOSTILE = {
    "no tar": b"this is no archive" * 100,
    "short header": PLAIN[:300],
    "short data": PLAIN[:514],
    "checksum": b"y" + PLAIN[1:],
    "size": damaged(PLAIN, 124, b"zzzzzzzzzzz\0"),
    "absurd size": damaged(PLAIN, 124, b"\x80" + b"\xff" * 11),
    "huge long name": damaged(damaged(PLAIN, 156, b"L"), 124, b"77777777777\0"),
    "huge pax header": damaged(damaged(PLAIN, 156, b"x"), 124, b"%011o\0" % (EXTENSION_MAX + 1)),
    "broken pax header": damaged(PLAIN, 156, b"x"),
    "sparse": damaged(PLAIN, 156, b"S"),
    "pax sparse": written([(pax_info({"GNU.sparse.major": "1"}), b"")]),
    "pax size": written([(pax_info({"size": "-1"}), b"")]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        read(HOSTILE[name])


@given(st.binary(max_size=2000))
def test_noise_is_refused_or_empty(noise: bytes) -> None:
    try:
        assert read(noise) == [] or noise
    except InvalidRequest:
        return


@given(st.integers(0, 511), st.binary(min_size=1, max_size=12), st.sampled_from([b"0", b"x", b"L"]))
def test_any_header_is_an_entry_or_refused(at: int, new: bytes, kind: bytes) -> None:
    try:
        read(damaged(damaged(PLAIN, 156, kind), at, new[: 512 - at]))
    except InvalidRequest:
        return
