"""Connections: whom we let in, and how we dial.

Defects of libp2p's swarm that are repaired here by subclass (network.md, 1): an inbound
connection holds its slot until the swarm ends, not until it does; half-open connections are
not limited by source; of the addresses of a peer only one is tried, without a time-out; a peer
that failed once is blocked for a minute; a fast dial waits 250 ms for nothing.

Spec: specs/network.md.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import trio
from libp2p.abc import IMuxedConn, INetConn
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from libp2p.stream_muxer.yamux import yamux
from multiaddr import Multiaddr

from node.network.addresses import ADDRESSES_PER_PEER_MAX, source_of
from node.network.foreign import contained
from node.network.interface import Tuning

CONNECTIONS_PER_PEER_MAX: Final = 4  # Two come of dialling at the same time, two of a restart.
HEAD_START_S: Final = 0.3  # An address has this before the next one is tried beside it.
FAILED_S: Final = 15.0  # Lookups in the DHT do not dial a dead peer again and again.
FAILED_MAX: Final = 4096
CLOSE_S: Final = 1.0

Refuses = Callable[[ID], bool]


class RepairedSwarm(Swarm):
    """libp2p's swarm, with its own doors."""

    tuning: Tuning
    refuses: Refuses

    def guard(self, tuning: Tuning, refuses: Refuses) -> None:
        """Set the limits and the rule that keeps peers out. Called once, before it runs."""
        self.tuning = tuning
        self.refuses = refuses
        self._half_open: Counter[str] = Counter()
        self._dialling: dict[ID, trio.Lock] = {}
        self._failed: dict[ID, float] = {}

    # --- in -------------------------------------------------------------------------------

    async def _do_handle_inbound_connection(
        self, read_write_closer: ReadWriteCloser, maddr: Multiaddr, failure_event: object
    ) -> None:
        """Serve an inbound connection until it is closed; only so long it holds its slot."""
        del failure_event
        host = source_of((read_write_closer.get_remote_address() or ("unknown", 0))[0])
        try:
            if self._half_open[host] < self.tuning.half_open_per_address_max:
                connection = await self._upgrade(read_write_closer, maddr, host)
                if isinstance(connection, yamux.Yamux):
                    await connection.event_closed.wait()
        finally:
            with contained("closing"), trio.CancelScope(shield=True) as scope:
                scope.deadline = trio.current_time() + CLOSE_S
                await read_write_closer.close()

    async def _upgrade(
        self, read_write_closer: ReadWriteCloser, maddr: Multiaddr, host: str
    ) -> IMuxedConn | None:
        self._half_open[host] += 1
        try:
            with contained("inbound connection"):
                raw = RawConnection(read_write_closer, initiator=False)
                return await self.upgrade_inbound_raw_conn(raw, maddr)
        finally:
            self._half_open[host] -= 1
            if not self._half_open[host]:
                del self._half_open[host]
        return None

    async def add_conn(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        peer_id = muxed_conn.peer_id
        crowded = len(self.get_connections(peer_id)) >= CONNECTIONS_PER_PEER_MAX
        if crowded or self.refuses(peer_id) or peer_id == self.self_id:
            with contained("refusing a connection"):
                await muxed_conn.close()
            raise SwarmException(f"connection with {peer_id} refused")
        return await super().add_conn(muxed_conn, direction)

    # --- out ------------------------------------------------------------------------------

    async def dial_peer(self, peer_id: ID) -> list[INetConn]:
        """Connect to a peer at the addresses that we know; libp2p calls it where it needs to.

        Raises SwarmException, at once if the last attempt failed a moment ago.
        """
        if time.monotonic() < self._failed.get(peer_id, 0):
            raise SwarmException(f"{peer_id} did not answer a moment ago")
        try:
            addresses = self.peerstore.addrs(peer_id)
        except PeerStoreError:
            addresses = []
        return [await self.dial_any(peer_id, addresses)]

    async def dial_any(self, peer_id: ID, addresses: Iterable[Multiaddr]) -> INetConn:
        """Return a connection with the peer, made at the first address that answers.

        Raises SwarmException if none does.
        """
        if self.refuses(peer_id) or peer_id == self.self_id:
            raise SwarmException(f"{peer_id} is not to be dialled")
        lock = self._dialling.setdefault(peer_id, trio.Lock())
        try:
            async with lock:
                connection = self.living(peer_id) or await self._race(peer_id, list(addresses))
        finally:
            if not lock.locked():
                self._dialling.pop(peer_id, None)
        self._note(peer_id, failed=connection is None)
        if connection is None:
            raise SwarmException(f"no address of {peer_id} answers")
        return connection

    def living(self, peer_id: ID) -> INetConn | None:
        """Return the newest connection with the peer that is not closed."""
        # The newest: a peer that crashed and came back has an older one that is dead.
        open_ones = [conn for conn in self.get_connections(peer_id) if not conn.is_closed]
        return open_ones[-1] if open_ones else None

    def _select_connection(self, connections: list[INetConn], peer_id: ID) -> INetConn:
        return self.living(peer_id) or connections[-1]

    async def _race(self, peer_id: ID, addresses: list[Multiaddr]) -> INetConn | None:
        winners: list[INetConn] = []
        async with trio.open_nursery() as nursery:
            for address in addresses[:ADDRESSES_PER_PEER_MAX]:
                lost = trio.Event()

                async def attempt(address: Multiaddr = address, lost: trio.Event = lost) -> None:
                    with contained("dial"), trio.move_on_after(self.tuning.dial_timeout_ms / 1000):
                        winners.append(await self.dial_addr(address, peer_id))
                        nursery.cancel_scope.cancel()
                    lost.set()

                nursery.start_soon(attempt)
                with trio.move_on_after(HEAD_START_S):
                    await lost.wait()
        return winners[0] if winners else None

    def _note(self, peer_id: ID, *, failed: bool) -> None:
        self._failed.pop(peer_id, None)
        if failed:
            self._failed[peer_id] = time.monotonic() + FAILED_S
        while len(self._failed) > FAILED_MAX:
            del self._failed[next(iter(self._failed))]
