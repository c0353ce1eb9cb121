"""Logs come to their requester as they grow, across broken connections, within their bounds.

Spec: specs/execution.md#log-protocol.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from node.data.log_protocol import PROTOCOL
from node.requester import log_follower
from node.requester.log_follower import follow_log
from protocol.values.errors import StorageFull
from tests.node.fixtures import ADA, BEA, LEASE, until
from tests.node.log_source import LogSource, serve_log
from tests.node.memory_stream import MemoryStream, MemoryStreams

Opener = Callable[[], Awaitable[MemoryStream]]


@pytest.fixture
def source(tmp_path: Path, streams: MemoryStreams) -> LogSource:
    return serve_log(tmp_path / "source", streams)


@pytest.fixture
def opener(streams: MemoryStreams) -> Opener:
    return partial(streams.opener(ADA.peer_id), BEA.peer_id, PROTOCOL)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follower, "RETRY_S", 0.01)


async def test_a_log_comes_as_it_grows(tmp_path: Path, source: LogSource, opener: Opener) -> None:
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
    tmp_path: Path, source: LogSource, opener: Opener, streams: MemoryStreams
) -> None:
    copy = tmp_path / "copy"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_log, opener, LEASE, copy, 10**6)
        for number in range(5):
            source.say(b"line %d\n" % number)
            await until(lambda: copy.exists() and copy.stat().st_size == source.path.stat().st_size)
            opened = len(streams.opened)
            await streams.served[-1].reset()
            await until(lambda seen=opened: len(streams.opened) > seen)
        source.grows = False
    assert copy.read_bytes() == b"".join(b"line %d\n" % number for number in range(5))


async def test_it_survives_a_provider_that_is_away(
    tmp_path: Path, source: LogSource, opener: Opener, streams: MemoryStreams
) -> None:
    copy = tmp_path / "copy"
    handler = streams.handlers.pop((BEA.peer_id, PROTOCOL))
    source.say(b"all")
    source.grows = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_log, opener, LEASE, copy, 10**6)
        await until(lambda: len(streams.opened) > 2)
        streams.handlers[BEA.peer_id, PROTOCOL] = handler
    assert copy.read_bytes() == b"all"


async def test_a_provider_that_has_just_come_back_blames_nobody(
    tmp_path: Path, source: LogSource, opener: Opener, streams: MemoryStreams
) -> None:
    copy = tmp_path / "copy"
    source.say(b"all")
    source.known = False  # It has not yet taken its container over.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_log, opener, LEASE, copy, 10**6)
        await until(lambda: len(streams.opened) > 2)
        source.known, source.grows = True, False
    assert copy.read_bytes() == b"all"
    assert streams.faults == []


async def test_a_provider_cannot_fill_our_disk(
    tmp_path: Path, source: LogSource, opener: Opener
) -> None:
    copy = tmp_path / "copy"
    source.say(b"x" * 1_000_000)
    await follow_log(opener, LEASE, copy, 100_000)
    assert copy.stat().st_size <= 100_000


async def test_a_full_disk_ends_the_following(
    source: LogSource, opener: Opener, streams: MemoryStreams
) -> None:
    source.say(b"x")
    with pytest.raises(StorageFull):
        await follow_log(opener, LEASE, Path("/dev/full"), 100_000)
    await until(lambda: streams.served[0].was_reset)


async def test_a_follower_that_is_stopped_lets_go_of_its_stream(
    tmp_path: Path, source: LogSource, opener: Opener, streams: MemoryStreams
) -> None:
    source.say(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_log, opener, LEASE, tmp_path / "copy", 10**6)
        await until((tmp_path / "copy").exists)
        nursery.cancel_scope.cancel()
    source.say(b"y")
    await until(lambda: streams.served[0].was_reset)
