"""Peers whose answers are awaited are connected with, and one that is away holds up no other.

Spec: specs/network.md#keeping-connections.
"""

import pytest
import trio

from node.messaging import connector as reaching
from node.messaging.connector import Connector
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId
from tests.node.fixtures import until

NAMES = [PeerId(str(number)) for number in range(100)]


async def test_each_is_reached_and_those_away_hold_up_nobody(monkeypatch) -> None:
    reached: list[PeerId] = []
    at_once: set[PeerId] = set()

    async def reach(peer: PeerId) -> None:
        at_once.add(peer)
        assert len(at_once) <= reaching.AT_A_TIME
        await trio.lowlevel.checkpoint()
        at_once.remove(peer)
        if peer in NAMES[:50]:
            raise PeerUnreachable("away")
        reached.append(peer)

    async with trio.open_nursery() as nursery:
        one = Connector(reach)
        one.want(NAMES)
        nursery.start_soon(one.run)
        await until(lambda: len(reached) == 50)
        nursery.cancel_scope.cancel()
    assert set(reached) == set(NAMES[50:])


async def test_more_than_can_wait_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "WAITING_MAX", 3)
    reached: list[PeerId] = []

    async def reach(peer: PeerId) -> None:
        await trio.lowlevel.checkpoint()
        reached.append(peer)

    one = Connector(reach)
    one.want(NAMES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await until(lambda: len(reached) == 3)
        one.want(NAMES[:1])
        await until(lambda: len(reached) == 4)
        nursery.cancel_scope.cancel()
