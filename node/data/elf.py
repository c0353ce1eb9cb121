"""Finds the shared libraries that a program of this machine needs, from its file.

Only for trusted files, and only those parts of ELF that the loader itself reads; no program is run.
64-bit little-endian, as on x86-64 and aarch64.

Spec: specs/data.md#base-image.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_STRTAB, DT_SONAME, DT_RPATH, DT_RUNPATH = 1, 5, 14, 15, 29
MAGIC: Final = b"\x7fELF\x02\x01"
TEXTS: Final = frozenset({DT_NEEDED, DT_SONAME, DT_RPATH, DT_RUNPATH})
LOADER_CONFIG: Final = Path("/etc/ld.so.conf")
STANDARD: Final = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")


@dataclass(frozen=True, slots=True)
class Linkage:
    """What a program or library needs from the loader; `search` are its own search folders."""

    loader: str
    needed: tuple[str, ...]
    search: tuple[Path, ...]


def read_linkage(path: Path) -> Linkage | None:
    """Return what an ELF file needs, None if it is not an ELF file or needs nothing."""
    data = path.read_bytes()
    if data[:6] != MAGIC:
        return None
    segments = list(_segments(data))
    loader = next((_text(data, offset) for kind, offset, _, _ in segments if kind == PT_INTERP), "")
    found = _dynamic_texts(data, segments)
    if found is None:
        return None

    def texts(*wanted: int) -> tuple[str, ...]:
        return tuple(text for tag, text in found if tag in wanted)

    origin = str(path.resolve().parent)
    search = ":".join(texts(DT_RPATH, DT_RUNPATH))
    folders = search.replace("${ORIGIN}", origin).replace("$ORIGIN", origin).split(":")
    return Linkage(loader, texts(DT_NEEDED), tuple(Path(folder) for folder in folders if folder))


def soname_of(path: Path) -> str | None:
    """Return the name that programs look for a library by; None if the file is no library."""
    with path.open("rb") as file:
        if file.read(6) != MAGIC:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:  # It may be large.
            found = _dynamic_texts(data, list(_segments(data))) or ()
    return next((text for tag, text in found if tag == DT_SONAME), None)


def library_folders() -> tuple[Path, ...]:
    """Return the loader's search path: the configured folders, then the standard folders."""
    named = list(_configured(LOADER_CONFIG))
    return tuple(Path(folder) for folder in (*named, *STANDARD) if Path(folder).is_dir())


def closure(path: Path, folders: tuple[Path, ...]) -> dict[str, Path]:
    """Return all libraries that a file needs, directly or indirectly, by name.

    The loader is included under its full path. FileNotFoundError names what is missing.
    """
    found: dict[str, Path] = {}
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(path, ())]
    while waiting:
        file, inherited = waiting.pop()
        linkage = read_linkage(file)
        if linkage is None:
            continue
        search = (*linkage.search, *inherited)
        if linkage.loader:
            found[linkage.loader] = Path(linkage.loader)
        for name in linkage.needed:
            loader = any(Path(known).name == name for known in found)
            if not loader:
                found[name] = _find(name, (*search, *folders), needed_by=file)
                waiting.append((found[name], search))
    return found


def _find(name: str, folders: tuple[Path, ...], needed_by: Path) -> Path:
    for folder in folders:
        candidate = folder / name
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{needed_by} needs the library {name}, which is not installed")


def _configured(config: Path) -> Iterator[str]:
    """Yield the folders of ld.so.conf and of the files that it includes."""
    if not config.is_file():
        return
    for line in config.read_text().splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            patterns = [str(config.parent / pattern).lstrip("/") for pattern in words[1:]]
            included = [path for pattern in patterns for path in sorted(Path("/").glob(pattern))]
            for path in included:
                yield from _configured(path)
        elif words:
            yield words[0]


def _dynamic_texts(
    data: bytes | mmap.mmap, segments: list[tuple[int, int, int, int]]
) -> list[tuple[int, str]] | None:
    """Return kind and text of the loader's entries that are texts; None if there are no entries."""
    dynamic = [(at, size) for kind, at, _, size in segments if kind == PT_DYNAMIC]
    if not dynamic:
        return None
    at, size = dynamic[0]
    tags = list(struct.iter_unpack("<qQ", data[at : at + size - size % 16]))
    address = next(value for tag, value in tags if tag == DT_STRTAB)
    strings = _offset_of(address, segments)
    return [(tag, _text(data, strings + value)) for tag, value in tags if tag in TEXTS]


def _segments(data: bytes | mmap.mmap) -> Iterator[tuple[int, int, int, int]]:
    """Yield kind, offset in the file, address and size in the file of each segment."""
    (table,) = struct.unpack_from("<Q", data, 32)
    entry_size, count = struct.unpack_from("<HH", data, 54)
    for number in range(count):
        fields = struct.unpack_from("<IIQQQQQQ", data, table + number * entry_size)
        yield fields[0], fields[2], fields[3], fields[5]


def _offset_of(address: int, segments: list[tuple[int, int, int, int]]) -> int:
    """Return the file offset of the byte that is loaded at an address."""
    for kind, offset, start, size in segments:
        if kind == PT_LOAD and start <= address < start + size:
            return offset + address - start
    raise AssertionError("a library of this machine has its strings in no segment")


def _text(data: bytes | mmap.mmap, offset: int) -> str:
    return data[offset : data.find(b"\0", offset)].decode()
