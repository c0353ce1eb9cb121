"""A log goes to the requester of its lease and to nobody else, in one stream, to its end.

Spec: specs/execution.md#log-protocol.
"""

from pathlib import Path

import pytest

from node.data.log_protocol import PROTOCOL, request_of
from tests.node.fixtures import ADA, BEA, EVE, LEASE, until
from tests.node.log_source import LogSource, serve_log
from tests.node.memory_stream import MemoryStreams


@pytest.fixture
def source(tmp_path: Path, streams: MemoryStreams) -> LogSource:
    return serve_log(tmp_path / "source", streams)


async def test_a_log_is_not_for_others(source: LogSource, streams: MemoryStreams) -> None:
    source.say(b"secret")
    stream = await streams.opener(EVE.peer_id)(BEA.peer_id, PROTOCOL)
    await stream.write(request_of(LEASE, 0))
    await until(lambda: streams.faults)
    assert streams.faults[0].peer == EVE.peer_id


async def test_the_newest_stream_of_a_lease_replaces_the_others(
    source: LogSource, streams: MemoryStreams
) -> None:
    source.say(b"a")
    for _ in range(20):
        stream = await streams.opener(ADA.peer_id)(BEA.peer_id, PROTOCOL)
        await stream.write(request_of(LEASE, 0))
        assert await stream.wait_some(1) == b"a"
    await until(lambda: sum(stream.was_reset for stream in streams.served) == 19)
    source.say(b"b")
    assert await stream.wait_some(1) == b"b"


@pytest.mark.parametrize("offset", [3, 4, 2**63, 2**64 - 1])
async def test_an_offset_at_or_beyond_the_end(
    source: LogSource, streams: MemoryStreams, offset: int
) -> None:
    source.say(b"all")
    source.grows = False
    stream = await streams.opener(ADA.peer_id)(BEA.peer_id, PROTOCOL)
    await stream.write(request_of(LEASE, offset))
    assert await stream.wait_some(10) == b""


async def test_half_a_request_costs_nothing(source: LogSource, streams: MemoryStreams) -> None:
    stream = await streams.opener(ADA.peer_id)(BEA.peer_id, PROTOCOL)
    await stream.write(LEASE)
    await stream.close()
    await until(lambda: streams.served[0].was_reset)
    assert streams.faults == []


async def test_the_stream_ends_when_the_lease_is_dropped(
    source: LogSource, streams: MemoryStreams
) -> None:
    source.say(b"so far")
    stream = await streams.opener(ADA.peer_id)(BEA.peer_id, PROTOCOL)
    await stream.write(request_of(LEASE, 0))
    assert await stream.wait_some(10) == b"so far"
    source.known = False
    assert await stream.wait_some(10) == b""
