"""One process of `scripts/bench data`: a holder of a blob, or a fetcher.

It is the node's network and its transfers, without the rest of the node. A holder also answers on a
bare TLS socket, which is the floor.
Spec: specs/overview.md#bench.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from node.data.blobs import BlobRef, Blobs
from node.data.range_server import RangeServer
from node.data.throttle import Throttle
from node.data.transfer import PROTOCOL, BlobFetcher, BlobServer, Holding, Ways
from node.network.bulk import PROTOCOL as BULK_PROTOCOL
from node.network.bulk_certificate import dialling_context, new_certificate
from node.network.host import Network, open_network
from node.network.interface import NetworkConfig
from protocol.values.errors import BadSignature
from protocol.values.ids import Digest, PeerId

BLOCK: Final = 2**20


class Alone:
    """A node that knows nobody, and keeps no index and no records."""

    def is_known(self, _peer: PeerId) -> bool:
        return False

    def peer_connected(self, peer: PeerId) -> None:
        pass

    def peer_disconnected(self, peer: PeerId) -> None:
        pass

    def sequence(self, peer: PeerId, _data: bytes) -> int:
        raise BadSignature(peer, "this network has no records")

    async def record_blobs(self, _blobs: Sequence[tuple[Digest, int, str]]) -> None:
        await trio.lowlevel.checkpoint()

    async def forget_blobs(self, _digests: Sequence[Digest]) -> None:
        await trio.lowlevel.checkpoint()

    async def known_blobs(self) -> tuple[tuple[Digest, int, str], ...]:
        await trio.lowlevel.checkpoint()
        return ()


@asynccontextmanager
async def opened(folder: Path, bootstrap: Sequence[str]) -> AsyncIterator[tuple[Network, Blobs]]:
    """Open a network and a blob folder."""
    alone = Alone()
    config = NetworkConfig(("/ip4/127.0.0.1/tcp/0",), tuple(bootstrap))
    blobs = Blobs(folder, alone, 100_000)
    await blobs.reconcile()
    async with open_network(config, os.urandom(32), alone, alone) as network:
        yield network, blobs


async def hold(folder: Path, size: int, count: int, mib_s: int) -> None:
    """Make `count` blobs of `size` bytes, print how to get them, and serve them."""
    async with opened(folder, ()) as (network, blobs):
        digests = [(await blobs.put_stream(Same(size, n), size, "input")).digest.hex()
                   for n in range(count)]  # fmt: skip
        upload = Throttle(mib_s)
        network.on_stream(PROTOCOL, BlobServer(blobs, upload).serve)
        ranges = RangeServer(blobs, network.bulk.serve, upload)
        network.on_stream(BULK_PROTOCOL, ranges.serve)
        listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=serve_bare, args=(listening, size), daemon=True).start()
        found = {"address": network.addresses()[0], "digests": digests,
                 "bare": listening.getsockname()[1]}  # fmt: skip
        print(json.dumps(found), flush=True)
        await trio.sleep_forever()


async def fetch(folder: Path, digests: list[str], size: int, ways: dict[str, Any]) -> None:
    """Fetch blobs, print how long it took, and remove them."""
    async with opened(folder, ways["addresses"]) as (network, blobs):
        holders = [PeerId(address.rpartition("/")[2]) for address in ways["addresses"]]
        for holder in holders:
            await network.reach(holder)
        call = network.bulk.call if ways["direct"] else None
        fetcher = BlobFetcher(blobs, Ways(network.open_stream, call))
        refs = [BlobRef(Digest(bytes.fromhex(digest)), size) for digest in digests]
        idle, began, used = resident(), time.perf_counter(), time.process_time()
        await fetcher.fetch_all(refs, Holding(holders[0], "input", "bench", (*holders[1:],)))
        show({"s": time.perf_counter() - began, "cpu_s": time.process_time() - used,
              "memory_mib": peak() - idle})  # fmt: skip


def serve_bare(listening: socket.socket, size: int) -> None:
    """Send as many bytes to everybody who comes, over TLS, until the process ends."""
    context = new_certificate().context
    block = bytes(BLOCK)
    while True:
        raw, _ = listening.accept()
        with context.wrap_socket(raw, server_side=True) as tls:
            for _ in range(size // BLOCK):
                tls.sendall(block)


def fetch_bare(port: int, size: int) -> None:
    """Receive as many bytes over TLS, and drop them."""
    block = memoryview(bytearray(BLOCK))
    raw = socket.create_connection(("127.0.0.1", port))
    with dialling_context().wrap_socket(raw) as tls:
        began, used, left = time.perf_counter(), time.process_time(), size // BLOCK * BLOCK
        while left:
            left -= tls.recv_into(block)
        show({"s": time.perf_counter() - began, "cpu_s": time.process_time() - used})


class Same:
    """Some bytes, always the same, of which no block is like another."""

    def __init__(self, size: int, number: int) -> None:
        self._left = size
        self._block = bytearray(b"m" * BLOCK)
        self._block[:8] = number.to_bytes(8)
        self._at = 0

    def read(self, size: int, /) -> bytes:
        self._block[8:16] = self._at.to_bytes(8)
        self._at += 1
        data = bytes(self._block[: min(size, self._left)])
        self._left -= len(data)
        return data


def resident() -> float:
    """Return the resident memory in MiB, and begin to watch its peak anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def peak() -> float:
    """Return the highest resident memory in MiB."""
    return _memory("VmHWM")


def _memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def show(found: dict[str, float]) -> None:
    """Print figures as one line."""
    print(json.dumps(found), flush=True)


def main() -> None:
    """Do what the arguments, one JSON object, say."""
    asked = json.loads(sys.argv[1])
    match asked.pop("do"):
        case "hold":
            trio.run(hold, Path(asked["folder"]), asked["size"], asked["count"], asked["mib_s"])
        case "fetch":
            folder = Path(asked["folder"])
            trio.run(fetch, folder, asked["digests"], asked["size"], asked["ways"])
        case "bare":
            fetch_bare(asked["port"], asked["size"])


if __name__ == "__main__":
    main()
