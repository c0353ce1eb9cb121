"""Nodes on the loopback interface for the tests of the network.

Spec: specs/network.md.
"""

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from node.network.host import Network, open_network
from node.network.interface import NetworkConfig, Tuning
from node.network.messages import Answer, Handler
from protocol.values.errors import BadSignature, PeerUnreachable
from protocol.values.ids import PeerId

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
PATIENT = Tuning(  # No time-out ends what a slow machine is still at; a test shortens its own.
    ping_every_ms=500,
    ping_timeout_ms=60_000,
    write_stall_ms=60_000,
    upgrade_timeout_ms=60_000,
    dial_timeout_ms=60_000,
    request_timeout_ms=60_000,
    probe_timeout_ms=60_000,
    peering_every_ms=200,
)
POLL_S = 0.02
WAIT_S = 60  # What is waited for comes at once, or never: this only ends a test that fails.


class RecordedEvents:
    """Remembers which peers came and went. Some are known from before."""

    def __init__(self, known=()):
        self.seen = []
        self.known = set(known)

    def is_known(self, peer: PeerId) -> bool:
        return peer in self.known

    def peer_connected(self, peer: PeerId) -> None:
        self.seen.append(("came", peer))

    def peer_disconnected(self, peer: PeerId) -> None:
        self.seen.append(("went", peer))


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
async def open_node(name: object, *bootstrap: str, **changes) -> AsyncIterator[Network]:
    """One node. `listen`, `events`, `rule`, `tuning` and NetworkConfig's fields can be changed."""
    events = changes.pop("events", RecordedEvents())
    rule = changes.pop("rule", TextRule())
    tuning = changes.pop("tuning", PATIENT)
    config = NetworkConfig(**{"listen": (LOOPBACK,), "bootstrap": bootstrap, **changes})
    async with open_network(config, seed(name), events, rule, tuning) as network:
        yield network


@asynccontextmanager
async def connected_nodes(size: int, **changes) -> AsyncIterator[list[Network]]:
    """So many nodes, all connected with each other; the first is the bootstrap peer."""
    async with AsyncExitStack() as exits:
        first = await exits.enter_async_context(open_node(0, **changes))
        nodes = [first]
        for name in range(1, size):
            one = await exits.enter_async_context(open_node(name, first.addresses()[0], **changes))
            nodes.append(one)
        await until(lambda: all(len(node.peers()) == size - 1 for node in nodes))
        yield nodes


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; TooSlowError if it does not come true."""
    with trio.fail_after(WAIT_S):
        while not condition():  # noqa: ASYNC110 - no event tells of what tests look at.
            await trio.sleep(POLL_S)


async def repeated(action: Callable[[], Awaitable[object]], condition: Callable[[], object]):
    """Do something again and again, until a condition comes true."""
    with trio.fail_after(WAIT_S):
        while not condition():
            await action()
            await trio.sleep(POLL_S)


def answering(answer: Callable[[PeerId, bytes], Awaitable[bytes]]) -> Handler:
    """A handler that accepts every request and answers it so."""

    async def accept(peer: PeerId, data: bytes) -> Answer:
        await trio.lowlevel.checkpoint()
        return partial(answer, peer, data)

    return accept


@answering
async def echo(peer: PeerId, data: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    return data


@asynccontextmanager
async def attacker(*arguments: str, script: str = "attacker.py") -> AsyncIterator[subprocess.Popen]:
    """The attacker's process, started with arguments of its script."""
    script = Path(__file__).with_name(script)
    command = [sys.executable, str(script), *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:  # noqa: ASYNC220 - a moment.
        try:
            yield process
        finally:
            process.kill()


async def read_line(process: subprocess.Popen) -> str:
    """The next line that a process says."""
    with trio.fail_after(WAIT_S):
        line = await trio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)
    return line.decode().strip()


def tuned(**changes) -> Tuning:
    return replace(PATIENT, **changes)


async def until_answered(node, peer: PeerId):
    """Ask until the peer's address has come round."""
    answers = []

    async def ask():
        with contextlib.suppress(PeerUnreachable):
            answers.append(await node.request(peer, b"?"))

    await repeated(ask, lambda: answers)
    assert answers == [b"?"]
