"""Logs come to their requester as they grow, across broken connections, within their bounds.

Spec: specs/execution.md#log-protocol.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from node.provider import log_server as logs
from node.provider.log_server import PROTOCOL, LogServer, follow_log
from protocol.values.errors import StorageFull
from protocol.values.ids import LeaseId, PeerId
from tests.node.fixtures import ADA, BEA, EVE, LEASE, Line, Wires, until

Opener = Callable[[], Awaitable[Line]]


class Source:
    """The log of one lease at its provider."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.grows = True
        self.known = True

    def log_of(self, lease_id: LeaseId) -> tuple[PeerId, Path, bool] | None:
        if lease_id != LEASE or not self.known:
            return None
        return ADA.peer_id, self.path, self.grows

    def say(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)


@pytest.fixture
def source(tmp_path: Path, wires: Wires) -> Source:
    source = Source(tmp_path / "source")
    wires.handlers[BEA.peer_id, PROTOCOL] = LogServer(source.log_of).serve
    return source


@pytest.fixture
def opener(wires: Wires) -> Opener:
    return partial(wires.of(ADA.peer_id), BEA.peer_id, PROTOCOL)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "RETRY_S", 0.01)


async def test_a_log_comes_as_it_grows(tmp_path: Path, source: Source, opener: Opener) -> None:
    copy = tmp_path / "copy"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_log, opener, LEASE, copy, 10**6)
        source.say(b"one\n")
        await until(lambda: copy.exists() and copy.read_bytes() == b"one\n")
        source.say(b"two\n")
        await until(lambda: copy.read_bytes() == b"one\ntwo\n")
        source.say(b"x" * 300_000)
        source.grows = False
    assert copy.read_bytes() == source.path.read_bytes()


async def test_it_survives_broken_connections(
    tmp_path: Path, source: Source, opener: Opener, wires: Wires
) -> None:
    copy = tmp_path / "copy"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_log, opener, LEASE, copy, 10**6)
        for number in range(5):
            source.say(b"line %d\n" % number)
            await until(lambda: copy.exists() and copy.stat().st_size == source.path.stat().st_size)
            opened = len(wires.opened)
            await wires.lines[-1].reset()
            await until(lambda seen=opened: len(wires.opened) > seen)
        source.grows = False
    assert copy.read_bytes() == b"".join(b"line %d\n" % number for number in range(5))


async def test_it_survives_a_provider_that_is_away(
    tmp_path: Path, source: Source, opener: Opener, wires: Wires
) -> None:
    copy = tmp_path / "copy"
    handler = wires.handlers.pop((BEA.peer_id, PROTOCOL))
    source.say(b"all")
    source.grows = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_log, opener, LEASE, copy, 10**6)
        await until(lambda: len(wires.opened) > 2)
        wires.handlers[BEA.peer_id, PROTOCOL] = handler
    assert copy.read_bytes() == b"all"


async def test_a_provider_that_has_just_come_back_blames_nobody(
    tmp_path: Path, source: Source, opener: Opener, wires: Wires
) -> None:
    copy = tmp_path / "copy"
    source.say(b"all")
    source.known = False  # It has not yet taken its container over.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_log, opener, LEASE, copy, 10**6)
        await until(lambda: len(wires.opened) > 2)
        source.known, source.grows = True, False
    assert copy.read_bytes() == b"all"
    assert wires.faults == []


async def test_a_log_is_not_for_others(source: Source, wires: Wires) -> None:
    source.say(b"secret")
    line = await wires.of(EVE.peer_id)(BEA.peer_id, PROTOCOL)
    await line.write(LEASE + bytes(8))
    await until(lambda: wires.faults)
    assert wires.faults[0].peer == EVE.peer_id


async def test_the_newest_stream_of_a_lease_replaces_the_others(
    source: Source, wires: Wires
) -> None:
    source.say(b"a")
    for _ in range(20):
        line = await wires.of(ADA.peer_id)(BEA.peer_id, PROTOCOL)
        await line.write(LEASE + bytes(8))
        assert await line.wait_some(1) == b"a"
    await until(lambda: sum(line.was_reset for line in wires.lines) == 19)
    source.say(b"b")
    assert await line.wait_some(1) == b"b"


@pytest.mark.parametrize("offset", [3, 4, 2**63, 2**64 - 1])
async def test_an_offset_at_or_beyond_the_end(source: Source, wires: Wires, offset: int) -> None:
    source.say(b"all")
    source.grows = False
    line = await wires.of(ADA.peer_id)(BEA.peer_id, PROTOCOL)
    await line.write(LEASE + offset.to_bytes(8))
    assert await line.wait_some(10) == b""


async def test_half_a_request_costs_nothing(source: Source, wires: Wires) -> None:
    line = await wires.of(ADA.peer_id)(BEA.peer_id, PROTOCOL)
    await line.write(LEASE)
    await line.close()
    await until(lambda: wires.lines[0].was_reset)
    assert wires.faults == []


async def test_the_stream_ends_when_the_lease_is_dropped(
    tmp_path: Path, source: Source, opener: Opener
) -> None:
    copy = tmp_path / "copy"
    source.say(b"so far")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_log, opener, LEASE, copy, 10**6)
        await until(copy.exists)
        source.known = False
    assert copy.read_bytes() == b"so far"


async def test_a_provider_cannot_fill_our_disk(
    tmp_path: Path, source: Source, opener: Opener
) -> None:
    copy = tmp_path / "copy"
    source.say(b"x" * 1_000_000)
    await follow_log(opener, LEASE, copy, 100_000)
    assert copy.stat().st_size <= 100_000


async def test_a_full_disk_ends_the_following(source: Source, opener: Opener, wires: Wires) -> None:
    source.say(b"x")
    with pytest.raises(StorageFull):
        await follow_log(opener, LEASE, Path("/dev/full"), 100_000)
    await until(lambda: wires.lines[0].was_reset)


async def test_a_follower_that_is_stopped_lets_go_of_its_stream(
    tmp_path: Path, source: Source, opener: Opener, wires: Wires
) -> None:
    source.say(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_log, opener, LEASE, tmp_path / "copy", 10**6)
        await until((tmp_path / "copy").exists)
        nursery.cancel_scope.cancel()
    source.say(b"y")
    await until(lambda: wires.lines[0].was_reset)
