"""The rolling digest of a run: two runs with the same digest did the same, event by event.

Spec: specs/simulation.md#determinism.
"""

import hashlib
from struct import Struct
from typing import Final

EVENT: Final = Struct("<qBiiq")
"""Tick, kind, node, peer, number."""
PENDING_BYTES: Final = 1 << 16


class Digest:
    """Takes events in their order."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._pending = bytearray()
        self.events = 0

    def note(self, tick: int, kind: int, node: int, peer: int, number: int = 0) -> None:
        """Add one event. Peers without a number are -1."""
        self._pending += EVENT.pack(tick, kind, node, peer, number)
        self.events += 1
        if len(self._pending) >= PENDING_BYTES:
            self._flush()

    def note_all(self, data: bytes, events: int) -> None:
        """Add many events at once, as bytes in a form of their own."""
        self._flush()
        self._hash.update(data)
        self.events += events

    def hex(self) -> str:
        """Return the digest of all events until now."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._hash.update(self._pending)
        self._pending.clear()
