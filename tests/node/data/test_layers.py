"""A layer's bytes are counted and hashed on both sides of the decompression.

Spec: specs/data.md#unpacking.
"""

import gzip
import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import zstandard

from node.data.blobs import BlobRef
from node.data.layers import ENTRY_BYTES, STEP_BYTES, Allowance, LayerReader, check_layer
from node.data.manifest import Layer
from protocol.values.errors import InvalidRequest, StorageFull
from protocol.values.ids import digest_of

DATA = os.urandom(1000) + bytes(3_000_000)


def drain(blob: bytes, layer: Layer, allowance: Allowance) -> bytes:
    reader = LayerReader(io.BytesIO(blob), layer, allowance)
    data = b"".join(iter(lambda: reader.read(99_999), b""))
    reader.finish()
    return data


async def drained(blob: bytes, packing: str, data: bytes = DATA, outer: bytes = b"") -> bytes:
    layer = Layer(BlobRef(digest_of(outer or blob), len(blob)), packing, digest_of(data))
    return await trio.to_thread.run_sync(drain, blob, layer, Allowance())


def zstd(data: bytes, **parameters: int) -> bytes:
    wanted = zstandard.ZstdCompressionParameters.from_level(3, **parameters)
    return zstandard.ZstdCompressor(compression_params=wanted).compress(data)


@pytest.mark.parametrize("packing", ["tar", "gzip", "zstd"])
async def test_the_right_bytes_come_out(packing: str) -> None:
    pack = {"tar": bytes, "gzip": gzip.compress, "zstd": zstd}[packing]
    assert await drained(pack(DATA), packing) == DATA
    assert await drained(pack(DATA[:9]) + pack(DATA[9:]), packing) == DATA  # Members, or frames.


async def test_what_is_wrong_with_zstd() -> None:
    whole = zstd(DATA)
    with pytest.raises(InvalidRequest, match="is not what the image's config names"):
        await drained(whole[:-20], "zstd")
    for broken in (gzip.compress(DATA), whole + b"more"):
        with pytest.raises(InvalidRequest, match="is not zstd"):
            await drained(broken, "zstd")
    with pytest.raises(InvalidRequest, match="too much memory"):
        await drained(zstd(bytes(2**25), window_log=27), "zstd", bytes(2**25))
    bomb = bytes(80 * 2**20)
    with pytest.raises(InvalidRequest, match="looks like a zstd bomb"):
        await drained(zstd(bomb), "zstd", bomb)


async def test_empty_layers() -> None:
    assert await drained(b"", "tar", b"", b"") == b""
    assert await drained(gzip.compress(b""), "gzip", b"") == b""
    with pytest.raises(InvalidRequest, match="too early"):
        await drained(b"", "gzip", b"")


async def test_wrong_digests() -> None:
    with pytest.raises(InvalidRequest, match="is damaged"):
        await drained(DATA, "tar", outer=b"other")
    with pytest.raises(InvalidRequest, match="config names"):
        await drained(DATA, "tar", b"other")


def test_an_allowance_ends() -> None:
    allowance = Allowance(bytes_max=5 + 2 * ENTRY_BYTES, entries_max=1)
    allowance.take_bytes(5)
    allowance.take_entry()
    with pytest.raises(InvalidRequest, match="more than 1 files"):
        allowance.take_entry()
    with pytest.raises(InvalidRequest, match="more than the allowed 0 MiB: give the job more disk"):
        allowance.take_bytes(ENTRY_BYTES + 1)


def test_growth_is_told_in_steps_and_may_be_refused() -> None:
    told: list[int] = []
    allowance = Allowance(grow=told.append)
    for _ in range(4):
        allowance.take_bytes(STEP_BYTES // 2)
    assert told == [STEP_BYTES, STEP_BYTES]
    for _ in range(STEP_BYTES // ENTRY_BYTES):  # Files without a byte in them take space too.
        allowance.take_entry()
    assert told == [STEP_BYTES] * 3

    def refuse(_: int) -> None:
        raise StorageFull("no room")

    allowance.grow = refuse
    with pytest.raises(StorageFull):
        allowance.take_bytes(STEP_BYTES)


async def check(layer: Layer, path: Path, allowance: Allowance) -> None:
    await trio.to_thread.run_sync(check_layer, layer, path, allowance)


async def test_a_layer_is_looked_into_in_one_way(tmp_path: Path, tar) -> None:
    path = tmp_path / "layer"
    data = tar(("a", b"1"), ("b", "DIRTYPE"))
    path.write_bytes(data)
    layer = Layer(BlobRef(digest_of(data), len(data)), "tar", digest_of(data))
    allowance = Allowance()
    await check(layer, path, allowance)
    assert allowance.entries_used == 2
    assert allowance.bytes_used == len(data) + 2 * ENTRY_BYTES
    with pytest.raises(InvalidRequest, match="config names"):
        await check(replace(layer, diff_id=digest_of(b"")), path, Allowance())
    sparse = tar(("a", b"", {"pax_headers": {"GNU.sparse.realsize": "1000000000000"}}))
    path.write_bytes(sparse)
    with pytest.raises(InvalidRequest, match="sparse"):  # Little to read, a disk full to unpack.
        await check(layer, path, Allowance())
