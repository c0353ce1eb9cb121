"""Reads a layer's bytes from its blob: hashed on both sides, decompressed, bounded.

Spec: specs/data.md#unpacking.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

import trio
import zstandard

from node.data.disk import CHUNK
from node.data.manifest import Layer
from node.data.tar import TarEntry, TarReader
from protocol.values.errors import InvalidRequest

GZIP_WINDOW: Final = 31
"""For zlib: gzip header and trailer, and the largest window."""
ZSTD_WINDOW_MAX: Final = 8 * 1024 * 1024
"""The memory that a frame may ask for: what RFC 8878 recommends, enough for levels up to 19."""
RATIO_GRACE: Final = 64 * CHUNK
"""Bytes that any layer may unpack to, however small it is: zeros compress well."""
ENTRY_BYTES: Final = 4096
"""The disk space of an entry besides its data: inode, name, and the rest of its last block."""
STEP_BYTES: Final = 8 * CHUNK
"""The step in which the growth of an image is reported."""


@dataclass(slots=True)
class Allowance:
    """What an image may use in all of its layers, or a pack, and what it has used."""

    bytes_max: int = 64 * 1024**3
    entries_max: int = 1_000_000
    ratio_max: int = 100
    """Unpacked bytes per compressed byte. Real layers stay below 20, a gzip bomb has about 1000."""
    grow: Callable[[int], object] | None = None
    """Called with the bytes used since the previous call; it may refuse."""
    what: str = "the image"
    """The subject of error messages."""
    bytes_used: int = 0
    entries_used: int = 0
    _told: int = 0

    def take_bytes(self, count: int) -> None:
        """Count some bytes; InvalidRequest if they exceed the limit."""
        self.bytes_used += count
        if self.bytes_used > self.bytes_max:
            mib = self.bytes_max // 1024**2
            raise InvalidRequest(
                f"{self.what} unpacks to more than the allowed {mib} MiB: give the job more disk"
            )
        if self.grow is not None and self.bytes_used >= self._told + STEP_BYTES:
            self.grow(self.bytes_used - self._told)
            self._told = self.bytes_used

    def take_entry(self) -> None:
        """Count an entry's space besides its data; InvalidRequest if it exceeds the limit."""
        self.entries_used += 1
        if self.entries_used > self.entries_max:
            raise InvalidRequest(f"{self.what} has more than {self.entries_max} files")
        self.take_bytes(ENTRY_BYTES)


class LayerArchive(TarReader):
    """The entries of a layer, with a limit on their number."""

    def __init__(self, reader: "LayerReader", allowance: Allowance) -> None:
        super().__init__(reader)
        self._allowance = allowance

    def __iter__(self) -> Iterator[TarEntry]:
        """Yield the entries; InvalidRequest if they are too many."""
        for entry in super().__iter__():
            self._allowance.take_entry()
            yield entry


@contextmanager
def open_layer(layer: Layer, path: Path, allowance: Allowance) -> Iterator[LayerArchive]:
    """Open a layer, given with the path of its blob: the only way to read one.

    InvalidRequest if it is broken, uses more than allowed, or has a wrong digest, which is known
    at the end.
    """
    with path.open("rb") as blob:
        reader = LayerReader(blob, layer, allowance)
        yield LayerArchive(reader, allowance)
        reader.finish()


def check_layer(layer: Layer, path: Path, allowance: Allowance) -> None:
    """Read all of a layer to find its errors, which are those of `open_layer`."""
    with open_layer(layer, path, allowance) as archive:
        for _ in archive:
            continue


class LayerReader:
    """Yields the uncompressed bytes of a layer. `finish` verifies them."""

    def __init__(self, blob: BinaryIO, layer: Layer, allowance: Allowance) -> None:
        self._blob = blob
        self._layer = layer
        self._allowance = allowance
        self._outer = hashlib.sha256()
        self._inner = hashlib.sha256()
        self._bytes_in = 0
        self._bytes_out = 0
        self._buffer = memoryview(b"")
        self._pending = b""
        self._inflater = zlib.decompressobj(GZIP_WINDOW)
        self._zstd = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_MAX).stream_reader(
            cast(BinaryIO, _Source(self._raw)), read_across_frames=True
        )
        self._unpack = {"tar": self._raw, "gzip": self._inflate, "zstd": self._unzstd}[
            layer.packing
        ]

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end."""
        if not self._buffer:
            self._buffer = memoryview(self._more())
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return bytes(data)

    def finish(self) -> None:
        """Read the rest; InvalidRequest if a digest differs from manifest or config."""
        while self.read(CHUNK):
            pass
        if self._outer.digest() != self._layer.ref.digest:
            raise InvalidRequest(f"layer {self._layer} is damaged")
        if self._inner.digest() != self._layer.diff_id:
            raise InvalidRequest(f"layer {self._layer} is not what the image's config names")

    def _more(self) -> bytes:
        trio.from_thread.check_cancelled()
        data = self._unpack(CHUNK)
        self._inner.update(data)
        self._bytes_out += len(data)
        self._allowance.take_bytes(len(data))
        bound = RATIO_GRACE + self._allowance.ratio_max * self._bytes_in
        if self._bytes_out > bound:
            raise InvalidRequest(
                f"layer {self._layer} is compressed too strongly: it looks like a"
                f" {self._layer.packing} bomb"
            )
        return data

    def _raw(self, size: int) -> bytes:
        data = self._blob.read(size)
        self._outer.update(data)
        self._bytes_in += len(data)
        return data

    def _unzstd(self, size: int) -> bytes:
        """Return the next uncompressed bytes; of a cut-off layer, the diff_id will be wrong."""
        try:
            return self._zstd.read(size)
        except zstandard.ZstdError as error:
            raise InvalidRequest(f"layer {self._layer} is not zstd: {error}") from error

    def _inflate(self, size: int) -> bytes:
        """Return the next uncompressed bytes; a layer may be several gzip members in a row."""
        data = b""
        while not data:
            self._pending = self._pending or self._raw(CHUNK // 4)
            if self._inflater.eof:
                if not self._pending:
                    break
                self._inflater = zlib.decompressobj(GZIP_WINDOW)
            at_end = not self._pending
            try:
                # Also without input: it may hold output that did not fit into the last CHUNK.
                data = self._inflater.decompress(self._pending, size)
            except zlib.error as error:
                raise InvalidRequest(f"layer {self._layer} is not gzip: {error}") from error
            self._pending = self._inflater.unconsumed_tail or self._inflater.unused_data
            if at_end and not data and not self._inflater.eof:
                raise InvalidRequest(f"layer {self._layer} ends too early")
        return data


class _Source:
    """What the zstd reader reads from."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.read = read
