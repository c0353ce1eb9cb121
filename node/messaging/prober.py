"""Asks silent peers whether they are there, and looks whether the fault is ours.

Spec: specs/survival.md#probe. A probe goes over a connection of its own: the one that went silent
may be dead without our knowledge, and messages may be stuck in it.
"""

import logging
from functools import partial
from typing import Any, Final, Protocol

import trio

from node.driver.background import Background
from node.driver.clock import Clock
from node.driver.driver import Inbox
from node.network.interface import Peer
from protocol.machines.effects import ProbePeer
from protocol.machines.inputs import NetworkLost, PeerAnswered
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId

LOG: Final = logging.getLogger(__name__)
PAUSE_S: Final = 0.3
WITNESSES: Final = 3
"""How many other peers are asked when one does not answer."""


class ProbeNetwork(Protocol):
    """What a prober needs of the network."""

    async def request_anew(self, peer: PeerId, data: bytes) -> bytes:
        """Send a frame over a new connection and return the answer; or raise PeerUnreachable."""
        ...

    async def answers(self, peer: PeerId) -> bool:
        """Return whether a connected peer answers."""
        ...

    def peers(self) -> tuple[Peer, ...]:
        """Return the connected peers."""
        ...


class Prober:
    """Sends probes in the background, and tells the core what came of them."""

    def __init__(self, network: ProbeNetwork, clock: Clock, inbox: Inbox) -> None:
        self._network = network
        self._clock = clock
        self._inbox = inbox
        self._background = Background()
        self._probes: dict[PeerId, ProbePeer] = {}

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Run all probes, until cancelled."""
        await self._background.run(task_status)

    def probe(self, probe: ProbePeer) -> None:
        """Begin a probe. One that is under way goes on until the later of the deadlines."""
        begun = probe.peer in self._probes
        self._probes[probe.peer] = probe
        if not begun:
            self._background.begin(partial(self._ask, probe.peer))

    async def _ask(self, peer: PeerId) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_for_witnesses, peer)
            answered = await self._is_answered(peer)
            nursery.cancel_scope.cancel()
        del self._probes[peer]
        LOG.debug("peer %s %s", peer, "is there" if answered else "does not answer a probe")
        if answered:
            await self._inbox.take(PeerAnswered(peer))

    async def _is_answered(self, peer: PeerId) -> bool:
        while self._clock.now_ms() < self._probes[peer].until_ms:
            try:
                await self._network.request_anew(peer, self._probes[peer].envelope)
            except PeerUnreachable:
                await trio.sleep(PAUSE_S)
            else:
                return True
        return False

    async def _look_for_witnesses(self, peer: PeerId) -> None:
        """Report that the network is lost if there are others, and none of them answers."""
        others = [one.peer_id for one in self._network.peers() if one.peer_id != peer]
        found: list[bool] = []

        async def look(other: PeerId) -> None:
            found.append(await self._network.answers(other))

        async with trio.open_nursery() as nursery:
            for other in others[:WITNESSES]:
                nursery.start_soon(look, other)
        if found and not any(found):
            LOG.warning("no peer answers: the network of this machine may be down")
            await self._inbox.take(NetworkLost())
