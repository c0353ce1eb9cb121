"""Connections: which ones we accept, and how we dial.

Defects of libp2p's swarm repaired here by subclass: an inbound connection holds its slot until the
swarm ends; the first peers hold all slots, because a connection with streams is never closed for
another; only one address of a peer is tried, without a time-out; a peer that failed once is blocked
for a minute; a fast dial waits 250 ms without need.

Spec: specs/network.md.
"""

import logging
import math
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
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

from node.network.addresses import ADDRESSES_PER_PEER_MAX
from node.network.dials import Dials
from node.network.interface import Tuning
from node.network.libp2p_errors import contained
from node.network.muxer import RepairedYamux
from node.network.slots import SlotClaim, Slots
from node.network.transport import TcpStream
from protocol.values.bounded import keep_newest

LOG: Final = logging.getLogger(__name__)
CONNECTIONS_PER_PEER_MAX: Final = 4  # Two result from simultaneous dials, two from a restart.
HEAD_START_S: Final = 0.3  # The delay before the next address is tried in parallel.
FAILED_S: Final = 15.0  # Lookups in the DHT do not dial a dead peer again and again.
FAILED_MAX: Final = 4096
PROVEN_MAX: Final = 1024
CLOSE_S: Final = 1.0
TURN_S: Final = 60.0
"""Time for an auction including the award, after which a peer is known and keeps its slot."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The admission rules: `refuses` excludes peers, `is_known` protects them from eviction."""

    refuses: Callable[[ID], bool]
    is_known: Callable[[ID], bool]


@dataclass(frozen=True, slots=True)
class Targets:
    """Where to dial a peer. `trusted` are not third parties' addresses, so dials are not limited.

    `is_asked` is false for dials by the node's own choice, and for those that DHT answers cause.
    """

    addresses: Sequence[Multiaddr]
    trusted: Collection[Multiaddr] = ()
    is_asked: bool = True


class RepairedSwarm(Swarm):
    """libp2p's swarm, with our admission rules."""

    tuning: Tuning
    refuses: Callable[[ID], bool]
    dials: Dials
    accept_bulk: Callable[[socket.socket, float], Awaitable[None]]
    """Takes bulk connections, with the time-out of their handshake."""

    def guard(self, tuning: Tuning, admission: Admission) -> None:
        """Set the limits and the admission rules. Called once, before it runs."""
        self.tuning = tuning
        self.refuses = admission.refuses
        self.chosen: set[ID] = set()  # Peers that we dialled by our own choice.
        self._is_known = admission.is_known
        per_source = tuning.connections_per_source_max
        self._slots = Slots(tuning.connections_max, per_source, TURN_S)
        self._slot_of: dict[IMuxedConn, SlotClaim] = {}
        # Handshakes end soon by themselves: there are no turns within a site.
        half_open = tuning.half_open_per_source_max
        self._half_open = Slots(tuning.half_open_max, half_open, math.inf)
        self._inbound_limiter = trio.CapacityLimiter(math.inf)  # Slots do its work.
        self._dialling: dict[ID, trio.Lock] = {}
        self._failed: dict[ID, float] = {}
        self._proven: dict[ID, Multiaddr] = {}
        self.accept_bulk = _refuse_bulk

    # --- in -------------------------------------------------------------------------------

    async def _do_handle_inbound_connection(
        self, read_write_closer: ReadWriteCloser, maddr: Multiaddr, failure_event: object
    ) -> None:
        """Serve an inbound connection until it is closed."""
        del failure_event
        host = (read_write_closer.get_remote_address() or ("unknown", 0))[0]
        try:
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
        with contained("inbound connection"), self._half_open.held(host):
            if await self._is_bulk(read_write_closer):
                return None
            raw = RawConnection(read_write_closer, initiator=False)
            return await self.upgrade_inbound_raw_conn(raw, maddr)
        return None

    async def _is_bulk(self, stream: ReadWriteCloser) -> bool:
        """Hand over a connection that begins with a TLS handshake: a bulk connection."""
        if not isinstance(stream, TcpStream):
            return False
        timeout_s = self.tuning.upgrade_timeout_ms / 1000
        with trio.fail_after(timeout_s):
            if not await stream.opens_tls():
                return False
        await self.accept_bulk(stream.detach(), timeout_s)
        return True

    async def add_conn(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        peer_id = muxed_conn.peer_id
        crowded = len(self.get_connections(peer_id)) >= CONNECTIONS_PER_PEER_MAX
        refused = crowded or self.refuses(peer_id) or peer_id == self.self_id
        if refused or not self._take_slot(muxed_conn, is_ours=direction == "outbound"):
            await self._close(muxed_conn)
            raise SwarmException(f"connection with {peer_id} refused")
        with ExitStack() as failing:
            failing.callback(self._give_slot_back, muxed_conn)
            added = await super().add_conn(muxed_conn, direction)
            failing.pop_all()
        if added.is_closed:  # Meanwhile; libp2p lists it nevertheless, forever.
            self.remove_conn(added)
        return added

    def remove_conn(self, swarm_conn: SwarmConn) -> None:
        super().remove_conn(swarm_conn)
        self._give_slot_back(swarm_conn.muxed_conn)

    def keeps(self, peer_id: ID) -> bool:
        """Return whether a peer's connections are protected from eviction."""
        return peer_id in self.chosen or self._is_known(peer_id)

    def _take_slot(self, muxed_conn: IMuxedConn, *, is_ours: bool) -> bool:
        slot = SlotClaim(
            host_of(muxed_conn),
            partial(self._evict, muxed_conn),
            partial(self.keeps, muxed_conn.peer_id),
            shares_source=not is_ours,
        )
        if not self._slots.admit(slot, trio.current_time()):
            return False
        self._slot_of[muxed_conn] = slot
        return True

    def _give_slot_back(self, muxed_conn: IMuxedConn) -> None:
        slot = self._slot_of.pop(muxed_conn, None)
        if slot is not None:
            self._slots.give_back(slot)

    def _evict(self, muxed_conn: IMuxedConn) -> None:
        LOG.debug("evicted the connection with %s for another", muxed_conn.peer_id)
        with contained("closing a connection"):  # It may end at the same time.
            self.manager.run_task(self._close, muxed_conn)

    async def _close(self, muxed_conn: IMuxedConn) -> None:
        with contained("closing a connection"):
            await muxed_conn.close()

    # --- out ------------------------------------------------------------------------------

    async def dial_peer(self, peer_id: ID) -> list[INetConn]:
        """Connect to a peer at its known addresses; libp2p calls this when it needs to.

        Raises SwarmException, at once if the last attempt failed a moment ago.
        """
        if time.monotonic() < self._failed.get(peer_id, 0):
            raise SwarmException(f"{peer_id} did not answer a moment ago")
        try:
            addresses = self.peerstore.addrs(peer_id)
        except PeerStoreError:
            addresses = []
        return [await self.dial_any(peer_id, Targets(addresses, is_asked=False))]

    async def dial_any(self, peer_id: ID, targets: Targets) -> INetConn:
        """Return a connection with the peer, made at the first address that answers.

        Raises SwarmException if none does.
        """
        if self.refuses(peer_id) or peer_id == self.self_id:
            raise SwarmException(f"{peer_id} is not to be dialled")
        lock = self._dialling.setdefault(peer_id, trio.Lock())
        try:
            async with lock:
                connection = self.living(peer_id) or await self._race(peer_id, targets)
        finally:
            if not lock.locked():
                self._dialling.pop(peer_id, None)
        self._note(peer_id, failed=connection is None)
        if connection is None:
            raise SwarmException(f"no address of {peer_id} answers")
        return connection

    async def dial_anew(self, peer_id: ID, targets: Targets) -> None:
        """Make one more connection with a peer, if an address answers."""
        if len(self.get_connections(peer_id)) < CONNECTIONS_PER_PEER_MAX:
            await self._race(peer_id, targets)

    def living(self, peer_id: ID) -> INetConn | None:
        """Return the newest connection with the peer that is not closed."""
        # The newest: after a peer's crash and restart an older one is dead.
        open_ones = [conn for conn in self.get_connections(peer_id) if not conn.is_closed]
        return open_ones[-1] if open_ones else None

    def _select_connection(self, connections: list[INetConn], peer_id: ID) -> INetConn:
        return self.living(peer_id) or connections[-1]

    async def _race(self, peer_id: ID, targets: Targets) -> INetConn | None:
        winners: list[INetConn] = []
        async with trio.open_nursery() as nursery:
            for address in targets.addresses[:ADDRESSES_PER_PEER_MAX]:
                if not self._may_dial(peer_id, address, targets):
                    continue
                lost = trio.Event()

                async def attempt(address: Multiaddr = address, lost: trio.Event = lost) -> None:
                    with contained("dial"), trio.move_on_after(self.tuning.dial_timeout_ms / 1000):
                        winners.append(await self.dial_addr(address, peer_id))
                        self._note_proven(peer_id, address, targets)
                        nursery.cancel_scope.cancel()
                    lost.set()

                nursery.start_soon(attempt)
                with trio.move_on_after(HEAD_START_S):
                    await lost.wait()
        return winners[0] if winners else None

    def _may_dial(self, peer_id: ID, address: Multiaddr, targets: Targets) -> bool:
        if address in targets.trusted or address == self._proven.get(peer_id):
            return True
        return self.dials.begin(address, is_asked=targets.is_asked)

    def _note_proven(self, peer_id: ID, address: Multiaddr, targets: Targets) -> None:
        """Record that the peer answered: then this is not a third party's address."""
        if address not in targets.trusted and address != self._proven.get(peer_id):
            self.dials.succeeded(address, is_asked=targets.is_asked)
        self._proven.pop(peer_id, None)
        self._proven[peer_id] = address
        keep_newest(self._proven, PROVEN_MAX)

    def _note(self, peer_id: ID, *, failed: bool) -> None:
        self._failed.pop(peer_id, None)
        if failed:
            self._failed[peer_id] = time.monotonic() + FAILED_S
        keep_newest(self._failed, FAILED_MAX)


def host_of(muxed_conn: IMuxedConn) -> str:
    """Return the IP address at the other end; all unknown ones share one."""
    remote = None
    with contained("address of a peer"):
        remote = muxed_conn.get_remote_address() if isinstance(muxed_conn, RepairedYamux) else None
    return "unknown" if remote is None else remote[0]


async def _refuse_bulk(raw: socket.socket, _timeout_s: float) -> None:
    await trio.lowlevel.checkpoint()
    raw.close()
