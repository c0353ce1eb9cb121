"""The memory that peers use: received bytes that are not read yet, and streams that they opened.

A window is granted per stream, and all windows together exceed the memory limit. A peer that uses
too much loses its connection. If all together use too much, the peer that uses the most loses one.

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
"""The memory of an open stream: measured, including the task that serves it."""


class Holder(Protocol):
    """A connection."""

    peer_id: ID

    def grown(self) -> int:
        """Return the number of bytes by which the windows of its streams have grown."""
        ...

    def abandon(self) -> None:
        """Close the connection soon, to free its memory."""


class Overrun(Exception):
    """The peer of this connection uses too much."""


class ReceiveBuffers:
    """Counts bytes by connection. Connections of `is_known` peers are closed after strangers'."""

    def __init__(self, is_known: Callable[[ID], bool]) -> None:
        self._is_known = is_known
        self._of_peer: Counter[ID] = Counter()
        self._of: dict[Holder, int] = {}
        self.total = 0

    def enter(self, holder: Holder) -> None:
        """Start counting a connection."""
        self._of.setdefault(holder, 0)

    def leave(self, holder: Holder) -> None:
        """Stop counting a connection: it is closed, or will be soon."""
        self.remove(holder, self._of.get(holder, 0))
        self._of.pop(holder, None)

    def add(self, holder: Holder, size: int) -> None:
        """Count received bytes; raises Overrun if the connection must be closed because of them."""
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
        """Count bytes that were read or discarded."""
        if holder in self._of:
            self._change(holder, -size)

    def grown(self) -> int:
        """Return the number of bytes by which all windows have grown."""
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
