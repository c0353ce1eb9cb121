"""Silent peers are asked over another way, and so are others if they do not answer.

Spec: specs/survival.md#probe.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from node.messaging.prober import Prober
from node.network.interface import Peer
from protocol.machines.effects import ProbePeer
from protocol.machines.inputs import NetworkLost, PeerAnswered
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId
from tests.node.fixtures import ADA, BEA, EVE, RecordedInbox, until


class _Clock:
    def now_ms(self) -> int:
        return int(trio.current_time() * 1000)


@dataclass
class _Network:
    """Peers that answer, and those that do not."""

    there: set[PeerId] = field(default_factory=set)
    connected: tuple[PeerId, ...] = ()
    asked: list[tuple[PeerId, bytes]] = field(default_factory=list)

    async def request_anew(self, peer: PeerId, data: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append((peer, data))
        if peer not in self.there:
            raise PeerUnreachable("silence")
        return b"\0"

    async def answers(self, peer: PeerId) -> bool:
        await trio.lowlevel.checkpoint()
        return peer in self.there

    def peers(self) -> tuple[Peer, ...]:
        return tuple(Peer(peer, "", "in", 1) for peer in self.connected)


@asynccontextmanager
async def probing(network: _Network) -> AsyncIterator[tuple[Prober, RecordedInbox]]:
    inbox = RecordedInbox()
    prober = Prober(network, _Clock(), inbox)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await nursery.start(prober.run)
        yield prober, inbox
        nursery.cancel_scope.cancel()


def probe(within_ms: int = 60_000) -> ProbePeer:
    return ProbePeer(BEA.peer_id, b"are you there?", _Clock().now_ms() + within_ms)


async def test_a_peer_that_answers_is_there() -> None:
    network = _Network({BEA.peer_id})
    async with probing(network) as (prober, inbox):
        prober.probe(probe())
        assert await inbox.wait_for(PeerAnswered) == PeerAnswered(BEA.peer_id)
    assert network.asked == [(BEA.peer_id, b"are you there?")]


async def test_a_peer_that_comes_back_in_time_is_there() -> None:
    network = _Network()
    async with probing(network) as (prober, inbox):
        prober.probe(probe())
        await until(lambda: len(network.asked) > 1, "another attempt")
        network.there.add(BEA.peer_id)
        await inbox.wait_for(PeerAnswered)


async def test_a_second_probe_prolongs_the_first(autojump_clock: object) -> None:
    network = _Network()
    async with probing(network) as (prober, inbox):
        prober.probe(probe(1_000))
        prober.probe(probe(5_000))
        await trio.sleep(3)
        network.there.add(BEA.peer_id)
        await trio.sleep(1)
    assert inbox.events == [PeerAnswered(BEA.peer_id)]


async def test_a_peer_that_is_away_is_asked_until_the_deadline(autojump_clock: object) -> None:
    network = _Network({EVE.peer_id}, (BEA.peer_id, EVE.peer_id))
    async with probing(network) as (prober, inbox):
        prober.probe(probe(2_000))
        await trio.sleep(3)
        asked = len(network.asked)
        await trio.sleep(60)
    assert asked == len(network.asked) > 2
    assert inbox.events == [], "another answers: the fault is not ours"


async def test_if_no_peer_answers_the_fault_may_be_ours(autojump_clock: object) -> None:
    network = _Network(set(), (BEA.peer_id, EVE.peer_id, ADA.peer_id))
    async with probing(network) as (prober, inbox):
        prober.probe(probe(2_000))
        await trio.sleep(3)
    assert inbox.events == [NetworkLost()]


async def test_whose_only_peer_is_silent_cannot_tell(autojump_clock: object) -> None:
    network = _Network(set(), (BEA.peer_id,))
    async with probing(network) as (prober, inbox):
        prober.probe(probe(2_000))
        await trio.sleep(3)
    assert inbox.events == []
