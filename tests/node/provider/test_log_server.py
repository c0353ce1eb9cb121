"""A log goes to the requester of its lease and to nobody else, in one stream, to its end.

Spec: specs/execution.md#log-protocol.
"""

from pathlib import Path

import pytest

from node.data.log_protocol import PROTOCOL, request_of
from tests.node.fixtures import ADA, BEA, EVE, LEASE, Wires, until
from tests.node.log_source import LogSource, serve_log


@pytest.fixture
def source(tmp_path: Path, wires: Wires) -> LogSource:
    return serve_log(tmp_path / "source", wires)


async def test_a_log_is_not_for_others(source: LogSource, wires: Wires) -> None:
    source.say(b"secret")
    line = await wires.of(EVE.peer_id)(BEA.peer_id, PROTOCOL)
    await line.write(request_of(LEASE, 0))
    await until(lambda: wires.faults)
    assert wires.faults[0].peer == EVE.peer_id


async def test_the_newest_stream_of_a_lease_replaces_the_others(
    source: LogSource, wires: Wires
) -> None:
    source.say(b"a")
    for _ in range(20):
        line = await wires.of(ADA.peer_id)(BEA.peer_id, PROTOCOL)
        await line.write(request_of(LEASE, 0))
        assert await line.wait_some(1) == b"a"
    await until(lambda: sum(line.was_reset for line in wires.lines) == 19)
    source.say(b"b")
    assert await line.wait_some(1) == b"b"


@pytest.mark.parametrize("offset", [3, 4, 2**63, 2**64 - 1])
async def test_an_offset_at_or_beyond_the_end(source: LogSource, wires: Wires, offset: int) -> None:
    source.say(b"all")
    source.grows = False
    line = await wires.of(ADA.peer_id)(BEA.peer_id, PROTOCOL)
    await line.write(request_of(LEASE, offset))
    assert await line.wait_some(10) == b""


async def test_half_a_request_costs_nothing(source: LogSource, wires: Wires) -> None:
    line = await wires.of(ADA.peer_id)(BEA.peer_id, PROTOCOL)
    await line.write(LEASE)
    await line.close()
    await until(lambda: wires.lines[0].was_reset)
    assert wires.faults == []


async def test_the_stream_ends_when_the_lease_is_dropped(source: LogSource, wires: Wires) -> None:
    source.say(b"so far")
    line = await wires.of(ADA.peer_id)(BEA.peer_id, PROTOCOL)
    await line.write(request_of(LEASE, 0))
    assert await line.wait_some(10) == b"so far"
    source.known = False
    assert await line.wait_some(10) == b""
