"""Peers without a record are looked up, those with one are not, and a liar harms nobody.

Spec: specs/discovery.md#lookup.
"""

from types import SimpleNamespace

import pytest
import trio

from node.daemon import strangers
from node.daemon.strangers import look_up_strangers
from protocol.core.core import Core
from protocol.machines.context import Policy
from protocol.values.errors import RuleBroken, Stale
from protocol.values.ids import PeerId
from tests.node.daemon.scene import ADA, until

PEERS = [PeerId(name) for name in ("known", "nowhere", "liar", "late", "good")]


class Dht:
    def __init__(self) -> None:
        self.asked: list[PeerId] = []
        self.taken: list[tuple[PeerId, bytes]] = []

    def peers(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(peer_id=peer) for peer in PEERS]

    async def get_record(self, peer: PeerId) -> bytes | None:
        await trio.lowlevel.checkpoint()
        self.asked.append(peer)
        return None if peer == "nowhere" else peer.encode()

    def take_record(self, peer: PeerId, data: bytes) -> None:
        if peer == "liar":
            raise RuleBroken(peer, "that is no record")
        if peer == "late":
            raise Stale("it has expired")
        self.taken.append((peer, data))


async def test_strangers_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "EVERY_S", 0.001)
    dht, core = Dht(), Core(ADA, Policy())
    known = SimpleNamespace(peer=PEERS[0])
    monkeypatch.setattr(core.directory, "listings", lambda now_ms: (known,))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look_up_strangers, core, dht, dht, lambda: 5)
        await until(lambda: len(dht.taken) >= 2)
        nursery.cancel_scope.cancel()
    assert set(dht.asked) == set(PEERS[1:])
    assert set(dht.taken) == {("good", b"good")}
