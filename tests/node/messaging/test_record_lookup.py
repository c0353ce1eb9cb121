"""Peers without a record are looked up, those with one are not, and a liar harms nobody.

Spec: specs/discovery.md#lookup.
"""

import itertools
from types import SimpleNamespace

import pytest
import trio

from node.messaging import record_lookup
from node.messaging.record_lookup import AT_ONCE_MAX, PAUSE_S_MAX, PAUSE_S_MIN, look_up_records
from protocol.core.core import Core
from protocol.machines.context import Policy
from protocol.values.errors import RuleBroken, Stale
from protocol.values.ids import PeerId
from protocol.values.limits import RECORD_TTL_MS
from protocol.wire.messages import CapabilityRecord
from tests.node.fixtures import ADA

PEERS = [PeerId(name) for name in ("known", "nowhere", "liar", "late", "good")]
SILENCE_S = 10


class Dht:
    def __init__(self, peers: list[PeerId]) -> None:
        self.there = peers
        self.asked: list[tuple[PeerId, float]] = []
        self.taken: list[tuple[PeerId, bytes]] = []
        self.at_once = self.at_once_max = 0

    def peers(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(peer_id=peer) for peer in self.there]

    async def get_record(self, peer: PeerId) -> bytes | None:
        self.asked.append((peer, trio.current_time()))
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        await trio.sleep(SILENCE_S if peer.startswith("silent") else 0)
        self.at_once -= 1
        return None if peer.startswith(("nowhere", "silent")) else peer.encode()

    def take_record(self, peer: PeerId, data: bytes) -> None:
        if peer == "liar":
            raise RuleBroken(peer, "that is no record")
        if peer == "late":
            raise Stale("it has expired")
        self.taken.append((peer, data))


@pytest.fixture
def core() -> Core:
    """A core that knows the first of PEERS."""
    made = Core(ADA, Policy())
    made.directory.add(PEERS[0], CapabilityRecord(1, 0, RECORD_TTL_MS, (), True), "", 0)
    return made


async def looked_up(core: Core, dht: Dht, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await look_up_records(core, dht, dht, lambda: 5)


async def test_unknown_peers_are_looked_up(
    core: Core, autojump_clock: trio.testing.MockClock
) -> None:
    dht = Dht(PEERS)
    await looked_up(core, dht, 2)
    assert {peer for peer, _ in dht.asked} == set(PEERS[1:])
    assert set(dht.taken) == {("good", b"good")}


async def test_who_says_nothing_keeps_few_others_waiting(
    core: Core, autojump_clock: trio.testing.MockClock
) -> None:
    silent = [PeerId(f"silent {number}") for number in range(AT_ONCE_MAX * 3)]
    dht = Dht([*silent, PEERS[-1]])
    await looked_up(core, dht, 4 * (SILENCE_S + record_lookup.EVERY_S))
    assert dht.at_once_max == AT_ONCE_MAX
    assert dht.taken
    first: dict[PeerId, float] = {}
    again = [at_s for peer, at_s in dht.asked if first.setdefault(peer, at_s) != at_s]
    assert len(first) == len(silent) + 1
    assert max(first.values()) <= min(again), "nobody is asked again before all have been once"


async def test_who_has_no_record_is_asked_ever_more_rarely(
    core: Core, autojump_clock: trio.testing.MockClock
) -> None:
    dht = Dht([PeerId("nowhere")])
    await looked_up(core, dht, 10 * PAUSE_S_MAX)
    times = [at_s for _, at_s in dht.asked]
    pauses_s = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses_s == sorted(pauses_s)
    assert PAUSE_S_MIN <= pauses_s[0] <= PAUSE_S_MIN + record_lookup.EVERY_S
    assert PAUSE_S_MAX <= pauses_s[-1] <= PAUSE_S_MAX + record_lookup.EVERY_S
    dht.there, dht.asked = [], []
    await looked_up(core, dht, PAUSE_S_MAX)
    assert not dht.asked


async def test_a_peer_that_comes_again_is_looked_up_again(
    core: Core, autojump_clock: trio.testing.MockClock
) -> None:
    dht = Dht([PEERS[-1]])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looked_up, core, dht, 1000)
        for there in ([], [PEERS[-1]]):
            await trio.sleep(2 * record_lookup.EVERY_S)
            dht.there = there
        await trio.sleep(2 * record_lookup.EVERY_S)
        nursery.cancel_scope.cancel()
    assert len(dht.taken) == 2
