"""Keeps connections: to the bootstrap peers always, to others of our choice up to a number.

Spec: specs/network.md.
"""

import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

import trio
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from multiaddr import Multiaddr

from node.network.addresses import AddressBook
from node.network.interface import Tuning
from node.network.libp2p_errors import LIBP2P_ERRORS, contained
from node.network.scores import monotonic_ms
from node.network.stack import Stack
from node.network.swarm import Targets
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId

REFRESH_S: Final = 10.0
REFRESH_EVERY_MIN_MS: Final = 5_000
REFRESH_EVERY_MAX_MS: Final = 120_000
PEERS_ENOUGH: Final = 20  # The number that one lookup requests.
FIND_S: Final = 5.0
STRANGERS_SOUGHT_MAX: Final = 8
"""Lookups at a time: each call under a new identity causes one."""
LASTING_MS: Final = 5_000
"""A peer that closes a connection sooner than this has no free slot."""


class Peering:
    """Dials the peers that we should be connected to, and finds new ones in the DHT."""

    def __init__(
        self, stack: Stack, book: AddressBook, refuses: Callable[[PeerId], bool], tuning: Tuning
    ) -> None:
        self._stack = stack
        self._book = book
        self._refuses = refuses
        self._tuning = tuning
        self._dialling: set[PeerId] = set()
        self._strangers_sought = trio.CapacityLimiter(STRANGERS_SOUGHT_MAX)
        self._searches: set[tuple[PeerId, trio.CancelScope]] = set()
        self._connected_ms: dict[PeerId, int] = {}
        self._refresh_at_ms = 0
        self._refreshed_ms = -REFRESH_EVERY_MIN_MS
        self._refresh_every_ms = REFRESH_EVERY_MIN_MS

    async def run(self) -> None:
        """Maintain the connections, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._refresh_for_ever)
            while True:
                for peer in self._wanted():
                    self._dialling.add(peer)
                    nursery.start_soon(self._dial_wanted, peer)  # A slow dial delays no other.
                await trio.sleep(self._pause_s())

    async def reach(self, peer: PeerId) -> None:
        """Return when the peer is connected; PeerUnreachable if no address answers."""
        if self._is_connected(peer):
            return
        if self._refuses(peer):
            raise PeerUnreachable(f"{peer} is refused because of its faults")
        if await self._dial(peer):
            return
        self._book.learn(peer, await self._find(peer), first=True)
        if not (self._is_connected(peer) or await self._dial(peer)):
            raise PeerUnreachable(f"no address of {peer} answers")

    async def reach_anew(self, peer: PeerId) -> None:
        """Make one more connection to a peer if an address answers: the others may be dead."""
        book, addresses = self._book, [*self._book.addresses(peer)]
        addresses += [one for one in self.told(peer) if one not in addresses]
        if not self._refuses(peer):
            targets = Targets(addresses, book.bootstrap(peer))
            with contained("dialling a peer anew"):
                await self._stack.swarm.dial_anew(ID.from_base58(peer), targets)

    def connected(self, peer: PeerId) -> None:
        """Handle a new connection: no lookup of the peer is needed, and it may know others."""
        for wanted, search in self._searches:
            if wanted == peer:
                search.cancel()
        self._connected_ms[peer] = monotonic_ms()
        self._book.dialled(peer, monotonic_ms(), reached=True)
        if self._stack.dht.routing_table.size() < PEERS_ENOUGH:  # Otherwise it adds little.
            self._refresh_every_ms = REFRESH_EVERY_MIN_MS
            soon_ms = self._refreshed_ms + REFRESH_EVERY_MIN_MS
            self._refresh_at_ms = min(self._refresh_at_ms, soon_ms)

    def disconnected(self, peer: PeerId) -> None:
        """Store the addresses that the peer reported while it was connected."""
        self._stack.swarm.chosen.discard(ID.from_base58(peer))
        now_ms = monotonic_ms()
        lasted = now_ms - self._connected_ms.pop(peer, now_ms) >= LASTING_MS
        self._book.disconnected(peer, now_ms, lasted=lasted)
        self._book.learn(peer, self.told(peer))

    def _wanted(self) -> list[PeerId]:
        """Return the peers to dial now: bootstrap peers, and others if we have too few."""
        self._learn_from_table()
        bootstrap, others = self._book.due(monotonic_ms())
        missing = [peer for peer in bootstrap if self._is_wanted(peer)]
        others = [peer for peer in others if self._is_wanted(peer)]
        # Incoming connections do not count: strangers would choose our neighbours.
        kept = sum(map(self._stack.swarm.keeps, tuple(self._stack.swarm.connections)))
        room = self._tuning.connections_wanted - kept - len(self._dialling)
        return missing + random.sample(others, max(0, min(room, len(others))))

    def _is_wanted(self, peer: PeerId) -> bool:
        own = str(self._stack.host.get_id())
        busy = peer in self._dialling or self._is_connected(peer)
        return peer != own and not busy and not self._refuses(peer)

    def _is_connected(self, peer: PeerId) -> bool:
        return self._stack.swarm.living(ID.from_base58(peer)) is not None

    def _learn_from_table(self) -> None:
        for info in self._stack.dht.routing_table.get_peer_infos():
            self._book.learn(PeerId(info.peer_id.to_base58()), info.addrs)

    def _pause_s(self) -> float:
        every_s = self._tuning.peering_every_ms / 1000
        return every_s * random.uniform(0.8, 1.2)  # noqa: S311 - not for secrets.

    async def _dial_wanted(self, peer: PeerId) -> None:
        chosen, peer_id = self._stack.swarm.chosen, ID.from_base58(peer)
        chosen.add(peer_id)
        try:
            if not await self._dial(peer, is_asked=False):
                chosen.discard(peer_id)
        finally:
            self._dialling.discard(peer)

    async def _dial(self, peer: PeerId, *, is_asked: bool = True) -> bool:
        """Dial a peer at its known addresses; return whether it is connected now."""
        book = self._book
        targets = Targets(book.addresses(peer), book.bootstrap(peer), is_asked)
        try:
            await self._stack.swarm.dial_any(ID.from_base58(peer), targets)
        except LIBP2P_ERRORS:
            self._book.dialled(peer, monotonic_ms(), reached=False)
            return False
        self._book.dialled(peer, monotonic_ms(), reached=True)
        return True

    async def _find(self, peer: PeerId) -> list[Multiaddr]:
        """Ask the DHT for the addresses of a peer."""
        info = None
        with contained("DHT lookup of a peer"), trio.move_on_after(FIND_S) as search:
            self._searches.add((peer, search))
            peer_id = ID.from_base58(peer)
            place = nullcontext() if self._stack.swarm.keeps(peer_id) else self._strangers_sought
            try:
                async with place:
                    info = await self._stack.dht.find_peer(peer_id)
            finally:
                self._searches.discard((peer, search))
        return [] if info is None else list(info.addrs)

    async def _refresh_for_ever(self) -> None:
        while True:
            await self._refresh()
            await trio.sleep(self._pause_s())

    async def _refresh(self) -> None:
        """Refresh the routing table if it is due: at growing intervals, from the first peer on."""
        now_ms = monotonic_ms()
        if now_ms < self._refresh_at_ms or not self._stack.swarm.connections:
            return
        self._refreshed_ms = now_ms
        self._refresh_at_ms = now_ms + self._refresh_every_ms
        self._refresh_every_ms = min(2 * self._refresh_every_ms, REFRESH_EVERY_MAX_MS)
        with contained("DHT refresh"), trio.move_on_after(REFRESH_S):
            for connection in self._stack.swarm.get_connections():
                await self._stack.dht.add_peer(connection.muxed_conn.peer_id)
            await self._stack.dht.refresh_routing_table()

    def told(self, peer: PeerId) -> list[Multiaddr]:
        """Return the addresses of a peer from identify or the DHT."""
        try:
            return self._stack.host.peerstore.addrs(ID.from_base58(peer))
        except PeerStoreError:
            return []
