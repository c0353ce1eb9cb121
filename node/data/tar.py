"""A reader for untrusted tar archives: ustar, GNU long names, pax headers, and nothing else.

The standard library's tarfile reads a pax header or a long name of any claimed size into memory,
and raises ValueErrors on invalid ones. This reader bounds each header and raises one error.

Spec: specs/data.md#tar.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from protocol.values.errors import InvalidRequest

if TYPE_CHECKING:  # The command line reads archives, too, and needs nothing else of it.
    from node.data.disk import Readable

CHUNK: Final = 1024 * 1024
BLOCK: Final = 512
EXTENSION_MAX: Final = 64 * 1024
"""Maximum bytes of a pax header or a long name: Linux paths have 4096 at most."""
KINDS: Final = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "character device",
    b"4": "block device",
    b"5": "folder",
    b"6": "fifo",
}
EXTENSIONS: Final = frozenset({b"L", b"K", b"x", b"g"})
NUMBER_MAX: Final = 2**62


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One entry of an archive; `size` in bytes, `mtime` in seconds since 1970."""

    name: str
    kind: str
    mode: int
    mtime: int
    size: int
    link: str = ""


class TarReader:
    """Reads an archive from front to back; InvalidRequest if it is not an archive."""

    def __init__(self, source: "Readable", skip: Callable[[int], object] | None = None) -> None:
        """Read from `source`; `skip`, if given, skips so many of its bytes."""
        self._source = source
        self._skip = skip
        self._left = 0  # Unread bytes of the current entry.
        self._padding = 0
        self.offset = 0  # Bytes read so far; at an entry, the start of its data.

    def __iter__(self) -> Iterator[TarEntry]:
        """Yield the entries; read an entry's data before asking for the next."""
        extension: dict[str, str] = {}
        while (block := self._next_header()) is not None:
            kind = block[156:157]
            size = _number(block[124:136])
            if kind in EXTENSIONS:
                data = self._extension(size)
                extension |= {} if kind == b"g" else _extended(kind, data)
                continue
            if any(key.startswith("GNU.sparse") for key in extension):
                raise InvalidRequest("the archive holds a sparse file: make it without --sparse")
            entry = _entry(block, extension)
            extension = {}
            self._begin(entry.size)
            yield entry

    def read(self, size: int = CHUNK) -> bytes:
        """Return at most `size` bytes of the current entry's data, none at its end."""
        data = self._source.read(min(size, self._left))
        if not data and self._left and size:
            raise InvalidRequest("the archive ends in the middle of a file")
        self._left -= len(data)
        self.offset += len(data)
        return data

    def _pass_over(self, count: int) -> None:
        self._left = count
        if self._skip is not None and count:
            self._skip(count)
            self.offset += count
            self._left = 0
        while self.read():
            pass

    def _begin(self, size: int) -> None:
        self._left = size
        self._padding = -size % BLOCK

    def _extension(self, size: int) -> bytes:
        if size > EXTENSION_MAX:
            raise InvalidRequest(f"the archive has a header of {size} bytes")
        self._begin(size)
        data = b""
        while part := self.read():
            data += part
        return data

    def _next_header(self) -> bytes | None:
        """Return the next header, None at the end of the archive."""
        self._pass_over(self._left)
        self._pass_over(self._padding)
        self._begin(BLOCK)
        block = b""
        while part := self._source.read(BLOCK - len(block)):
            block += part
        self._left = 0
        self.offset += len(block)
        if len(block) == 0 or not any(block):
            return None
        if len(block) < BLOCK or not _checksum_is_right(block):
            raise InvalidRequest("this is not a tar archive, or it is damaged")
        return block


def _entry(block: bytes, extension: dict[str, str]) -> TarEntry:
    code = block[156:157]
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345:346] != b"\0":
        name = f"{_text(block[345:500])}/{name}"
    name = extension.get("path", name)
    kind = KINDS.get(code, "unknown")
    # An old form of a folder entry.
    kind = "folder" if kind == "file" and name.endswith("/") else kind
    if code == b"S":
        raise InvalidRequest("the archive holds a sparse file: make it without --sparse")
    size = _decimal(extension["size"]) if "size" in extension else _number(block[124:136])
    return TarEntry(
        name=name,
        kind=kind,
        mode=_number(block[100:108]) & 0o7777,
        mtime=min(_number(block[136:148]), 2**33),
        # Links and the like have no data, whatever their size field says.
        size=size if kind in {"file", "unknown"} else 0,
        link=extension.get("linkpath", _text(block[157:257])),
    )


def _extended(kind: bytes, data: bytes) -> dict[str, str]:
    """Return the fields of a GNU long name or a pax header for the next entry."""
    if kind == b"L":
        return {"path": _text(data)}
    if kind == b"K":
        return {"linkpath": _text(data)}
    fields: dict[str, str] = {}
    while data.strip(b"\0"):
        length_text, _, _ = data.partition(b" ")
        length = _decimal(_text(length_text[:20]))
        record = data[len(length_text) + 1 : length]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n") or length > len(data):
            raise InvalidRequest("the archive has a broken pax header")
        fields[_text(key)] = _text(value[:-1])
        data = data[length:]
    return fields


def _text(field: bytes) -> str:
    """Decode up to the first NUL; names need not be UTF-8."""
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int:
    """Decode an octal number, or one in GNU's base 256 if the first bit is set."""
    if field[0] & 0x80:
        number = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:])
        number = 0 if field[0] & 0x40 else number  # Negative: a time before 1970.
    else:
        digits = field.replace(b"\0", b" ").strip()
        if not set(digits) <= set(b"01234567"):
            raise InvalidRequest("the archive has a malformed number")
        number = int(digits or b"0", 8)
    if number > NUMBER_MAX:
        raise InvalidRequest("the archive has an absurd number")
    return number


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise InvalidRequest("the archive has a malformed number")
    return int(text)


def _checksum_is_right(block: bytes) -> bool:
    computed = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    digits = block[148:156].strip(b" \0")
    return set(digits) <= set(b"01234567") and int(digits or b"0", 8) == computed
