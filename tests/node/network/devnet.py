"""Nodes on the loopback interface for the tests of the network.

Spec: specs/network.md.
"""

import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from node.network.host import Network, open_network
from node.network.interface import NetworkConfig, Tuning
from protocol.values.errors import BadSignature, PeerUnreachable
from protocol.values.ids import PeerId

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
QUICK = Tuning(
    ping_every_ms=500,
    ping_timeout_ms=1_000,
    write_stall_ms=1_500,
    upgrade_timeout_ms=1_500,
    dial_timeout_ms=1_500,
    keeper_every_ms=200,
)


class Diary:
    """Remembers which peers came and went."""

    def __init__(self):
        self.lines = []

    def peer_connected(self, peer: PeerId) -> None:
        self.lines.append(("came", peer))

    def peer_disconnected(self, peer: PeerId) -> None:
        self.lines.append(("went", peer))


class TextRule:
    """Records of the form b"<peer id> <sequence number>"."""

    def sequence(self, peer: PeerId, data: bytes) -> int:
        name, _, number = data.partition(b" ")
        if name != peer.encode() or not number.isdigit():
            raise BadSignature(peer, "not its record")
        return int(number)


def seed(name: object) -> bytes:
    return hashlib.sha256(str(name).encode()).digest()


@asynccontextmanager
async def opened(name: object, *bootstrap: str, **changes) -> AsyncIterator[Network]:
    """One node. `listen`, `diary`, `rule`, `tuning` and NetworkConfig's fields can be changed."""
    diary = changes.pop("diary", Diary())
    rule = changes.pop("rule", TextRule())
    tuning = changes.pop("tuning", QUICK)
    config = NetworkConfig(**{"listen": (LOOPBACK,), "bootstrap": bootstrap, **changes})
    async with open_network(config, seed(name), diary, rule, tuning) as network:
        yield network


@asynccontextmanager
async def circle(size: int, **changes) -> AsyncIterator[list[Network]]:
    """So many nodes, all connected with each other; the first is the bootstrap peer."""
    async with AsyncExitStack() as exits:
        first = await exits.enter_async_context(opened(0, **changes))
        nodes = [first]
        for name in range(1, size):
            one = await exits.enter_async_context(opened(name, first.addresses()[0], **changes))
            nodes.append(one)
        await until(lambda: all(len(node.peers()) == size - 1 for node in nodes), 30)
        yield nodes


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for a condition; TooSlowError if it does not come true."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - no event tells of what tests look at.
            await trio.sleep(0.01)


async def echo(peer: PeerId, data: bytes) -> bytes:
    return data


@asynccontextmanager
async def attacker(*arguments: str) -> AsyncIterator[subprocess.Popen]:
    """The attacker's process, started with arguments of attacker.py."""
    script = Path(__file__).with_name("attacker.py")
    command = [sys.executable, str(script), *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:  # noqa: ASYNC220 - a moment.
        try:
            yield process
        finally:
            process.kill()


async def said(process: subprocess.Popen, seconds: float = 30) -> str:
    """The next line that a process says."""
    with trio.fail_after(seconds):
        line = await trio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)
    return line.decode().strip()


def slower(**changes) -> Tuning:
    return replace(QUICK, **changes)


async def until_answered(node, peer: PeerId):
    """Ask until the peer's address has come round."""
    with trio.fail_after(20):
        while True:
            try:
                assert await node.request(peer, b"?") == b"?"
            except PeerUnreachable:
                await trio.sleep(0.2)
            else:
                return
