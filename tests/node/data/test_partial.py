"""A partial file keeps exactly the chunks that the list confirms.

Spec: specs/data.md#resumption.
"""

import hashlib
import os
from functools import partial as bound
from pathlib import Path

import pytest
import trio

from node.data.disk import CHUNK
from node.data.partial import Partial
from protocol.values.ids import digest_of

DATA = os.urandom(3 * CHUNK + 9)
CHUNKS = [DATA[i : i + CHUNK] for i in range(0, len(DATA), CHUNK)]
HASHES = b"".join(hashlib.sha256(chunk).digest() for chunk in CHUNKS)


async def resumed(path: Path, hashes: bytes = HASHES) -> Partial:
    return await trio.to_thread.run_sync(Partial.resume, path, len(DATA), hashes)


async def test_it_grows_chunk_by_chunk(tmp_path: Path) -> None:
    partial = await resumed(tmp_path / "p")
    assert not partial.append(CHUNKS[1])  # Not its turn.
    assert all(partial.append(chunk) for chunk in CHUNKS)
    assert partial.complete
    assert partial.bytes_done == len(DATA)
    assert partial.digest == digest_of(DATA)
    partial.close()
    assert (tmp_path / "p").read_bytes() == DATA


@pytest.mark.parametrize(
    "kept, chunks",
    [
        (DATA, 4),
        (DATA + b"more", 4),
        (DATA[: 2 * CHUNK], 2),
        (DATA[: 2 * CHUNK + 5], 2),  # A torn write.
        (CHUNKS[0] + b"x" + CHUNKS[1], 1),
        (b"", 0),
    ],
)
async def test_only_right_chunks_are_kept(tmp_path: Path, kept: bytes, chunks: int) -> None:
    path = tmp_path / "p"
    path.write_bytes(kept)
    partial = await resumed(path)
    assert partial.done == chunks
    assert path.stat().st_size == partial.bytes_done
    assert all(partial.append(chunk) for chunk in CHUNKS[chunks:])
    assert partial.digest == digest_of(DATA)
    partial.close()
    assert path.read_bytes() == DATA


async def test_another_list_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(DATA)
    partial = await resumed(tmp_path / "p", bytes(len(HASHES)))
    assert partial.done == 0
    partial.close()


async def test_an_empty_blob_is_complete_at_once(tmp_path: Path) -> None:
    partial = await trio.to_thread.run_sync(bound(Partial.resume, tmp_path / "p", 0, b""))
    assert partial.complete
    assert partial.digest == digest_of(b"")
    partial.close()
