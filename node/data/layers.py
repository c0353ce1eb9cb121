"""A layer's bytes as they come out of the blob: hashed on both sides, decompressed, bounded.

Spec: specs/data.md#unpacking.
"""

import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import trio

from node.data.disk import CHUNK
from node.data.manifest import Layer
from node.data.tar import Entry, TarReader
from protocol.values.errors import InvalidRequest

GZIP_WINDOW: Final = 31
"""zlib's way to say: a gzip header and trailer, and the largest window."""
RATIO_GRACE: Final = 64 * CHUNK
"""Bytes that may come out of any layer, however small: zeros compress well."""


@dataclass(slots=True)
class Allowance:
    """What an image may still use, over all of its layers."""

    bytes_left: int = 64 * 1024**3
    entries_left: int = 1_000_000
    ratio_max: int = 100
    """Bytes out per byte in. Real layers stay below 20, a gzip bomb has about 1000."""

    def take_bytes(self, count: int) -> None:
        """Use up some bytes; InvalidRequest if there are no more."""
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise InvalidRequest("the image unpacks to more bytes than allowed")

    def take_entry(self) -> None:
        """Use up one entry; InvalidRequest if there are no more."""
        self.entries_left -= 1
        if self.entries_left < 0:
            raise InvalidRequest("the image has more files than allowed")


class LayerArchive(TarReader):
    """The entries of a layer, each of them counted."""

    def __init__(self, reader: "LayerReader", allowance: Allowance) -> None:
        super().__init__(reader)
        self._allowance = allowance

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries; InvalidRequest if they are too many."""
        for entry in super().__iter__():
            self._allowance.take_entry()
            yield entry


@contextmanager
def open_layer(layer: Layer, path: Path, allowance: Allowance) -> Iterator[LayerArchive]:
    """Open a layer, given with the path of its blob: the one way to look into it.

    InvalidRequest if it is broken, uses more than allowed, or has another digest than it should,
    which shows at the end.
    """
    if layer.packing == "zstd":
        raise InvalidRequest(f"layer {layer} is packed with zstd: build the image with gzip layers")
    with path.open("rb") as blob:
        reader = LayerReader(blob, layer, allowance)
        yield LayerArchive(reader, allowance)
        reader.finish()


def check_layer(layer: Layer, path: Path, allowance: Allowance) -> None:
    """Read all of a layer, for its errors alone: those of `open_layer`."""
    with open_layer(layer, path, allowance) as archive:
        for _ in archive:
            continue


class LayerReader:
    """Yields the uncompressed bytes of a layer. `finish` says whether they were the right ones."""

    def __init__(self, blob: BinaryIO, layer: Layer, allowance: Allowance) -> None:
        self._blob = blob
        self._layer = layer
        self._allowance = allowance
        self._outer = hashlib.sha256()
        self._inner = hashlib.sha256()
        self._bytes_in = 0
        self._bytes_out = 0
        self._buffer = b""
        self._pending = b""
        self._inflater = zlib.decompressobj(GZIP_WINDOW)

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end."""
        if not self._buffer:
            self._buffer = self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def finish(self) -> None:
        """Read the rest; InvalidRequest if a digest is not what manifest or config says."""
        while self.read(CHUNK):
            pass
        if self._outer.digest() != self._layer.ref.digest:
            raise InvalidRequest(f"layer {self._layer} is damaged")
        if self._inner.digest() != self._layer.diff_id:
            raise InvalidRequest(f"layer {self._layer} is not what the image's config names")

    def _more(self) -> bytes:
        trio.from_thread.check_cancelled()
        data = self._inflate() if self._layer.is_gzip else self._raw(CHUNK)
        self._inner.update(data)
        self._bytes_out += len(data)
        self._allowance.take_bytes(len(data))
        bound = RATIO_GRACE + self._allowance.ratio_max * self._bytes_in
        if self._bytes_out > bound:
            raise InvalidRequest(f"layer {self._layer} is compressed beyond belief: a gzip bomb")
        return data

    def _raw(self, size: int) -> bytes:
        data = self._blob.read(size)
        self._outer.update(data)
        self._bytes_in += len(data)
        return data

    def _inflate(self) -> bytes:
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
                # Without input too: what did not fit into the last CHUNK is still in there.
                data = self._inflater.decompress(self._pending, CHUNK)
            except zlib.error as error:
                raise InvalidRequest(f"layer {self._layer} is no gzip: {error}") from error
            self._pending = self._inflater.unconsumed_tail or self._inflater.unused_data
            if at_end and not data and not self._inflater.eof:
                raise InvalidRequest(f"layer {self._layer} ends too early")
        return data
