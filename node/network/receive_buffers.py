"""The memory that peers fill: what they sent and nobody has read yet, and the streams they opened.

A window is a promise to one stream. All windows together promise more than there is; so whoever
uses too much of it loses its connection, and where all together use too much, who uses the most.

Spec: specs/network.md#limits.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from libp2p.peer.id import ID

MIB: Final = 1024 * 1024
PEER_BYTES_MAX: Final = 12 * MIB
TOTAL_BYTES_MAX: Final = 64 * MIB
STREAM_BYTES: Final = 8 * 1024
"""What an open stream counts: measured, with the task that serves it."""


class Holder(Protocol):
    """A connection."""

    peer_id: ID

    def grown(self) -> int:
        """Return by how many bytes the windows of its streams have grown."""
        ...

    def abandon(self) -> None:
        """Close the connection soon: its memory is needed."""


class Overrun(Exception):
    """The peer of this connection uses too much."""


class ReceiveBuffers:
    """Counts bytes by connection. `is_known` says whose are closed after all strangers'."""

    def __init__(self, is_known: Callable[[ID], bool]) -> None:
        self._is_known = is_known
        self._of_peer: Counter[ID] = Counter()
        self._of: dict[Holder, int] = {}
        self.total = 0

    def enter(self, holder: Holder) -> None:
        """Count a connection from now on."""
        self._of.setdefault(holder, 0)

    def leave(self, holder: Holder) -> None:
        """Count a connection no more: it is closed, or will be soon."""
        self.remove(holder, self._of.get(holder, 0))
        self._of.pop(holder, None)

    def add(self, holder: Holder, size: int) -> None:
        """Count bytes that came; raises Overrun if the connection has to be closed for them."""
        if holder not in self._of:
            raise Overrun(f"the connection with {holder.peer_id} is being closed")
        self._change(holder, size)
        if self._of_peer[holder.peer_id] > PEER_BYTES_MAX:
            raise Overrun(f"{holder.peer_id} uses too much memory")
        while self.total > TOTAL_BYTES_MAX:
            loser = max(self._of, key=self._weight)
            self.leave(loser)
            if loser is holder:
                raise Overrun(f"{holder.peer_id} uses the most memory")
            loser.abandon()

    def remove(self, holder: Holder, size: int) -> None:
        """Count bytes that were read, or given up."""
        if holder in self._of:
            self._change(holder, -size)

    def grown(self) -> int:
        """Return by how many bytes all windows have grown."""
        return sum(holder.grown() for holder in self._of)

    def _change(self, holder: Holder, by: int) -> None:
        self._of[holder] += by
        self._of_peer[holder.peer_id] += by
        if not self._of_peer[holder.peer_id]:
            del self._of_peer[holder.peer_id]
        self.total += by

    def _weight(self, holder: Holder) -> tuple[bool, int, int]:
        peer = holder.peer_id
        return not self._is_known(peer), self._of_peer[peer], self._of[holder]
