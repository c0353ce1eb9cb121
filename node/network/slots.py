"""Slots: a limited number of connections, handshakes, DHT streams and other streams.

Identities cost nothing, addresses do. So slots are allocated by the addresses of their holders: a
source is the address of one household, a site is the smallest network that is routed and sold as a
unit. Nobody can take all slots, and a newcomer from another site always gets one.

Spec: specs/network.md#slots.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from node.network.addresses import site_of, source_of

FOR_STRANGERS: Final = 8
"""One of so many slots is never protected: strangers get it, however many peers are known."""


def _never() -> bool:
    return False


@dataclass(eq=False, slots=True)
class SlotClaim:
    """A slot that is requested or held.

    `evict` is called when another holder gets the slot; it must not block. `is_spared` returns
    whether eviction is forbidden now. `shares_source` is false for a connection that we dialled:
    it does not count for its source.
    """

    host: str
    evict: Callable[[], object]
    is_spared: Callable[[], bool] = _never
    shares_source: bool = True
    since_s: float = 0
    source: str = field(init=False)
    site: str = field(init=False)

    def __post_init__(self) -> None:
        """Compute source and site of the host, an IP address; any other text is its own source."""
        self.source = source_of(self.host)
        self.site = site_of(self.host)


class Slots:
    """Allocates `total` slots, of which one source gets `per_source` at most.

    A holder is not evicted for another of its own site during its first `turn_s` seconds.
    """

    def __init__(self, total: int, per_source: int, turn_s: float) -> None:
        self._total = total
        self._per_source = per_source
        self._turn_s = turn_s
        self._held: dict[SlotClaim, None] = {}  # The oldest first.

    def __len__(self) -> int:
        return len(self._held)

    def admit(self, claim: SlotClaim, now_s: float) -> bool:
        """Return whether a newcomer gets a slot, after evicting another if necessary."""
        is_full = len(self._held) >= self._total
        if is_full or self.count(claim.source) >= self._per_source:
            strangers = self._strangers()
            rivals = [other for other in strangers if other.source == claim.source]
            if claim.is_spared() or not claim.shares_source or len(rivals) < self._per_source:
                rivals = strangers if is_full else []
            if rivals and not self._evict_one(rivals, strangers, claim, now_s):
                return False
        claim.since_s = now_s
        self._held[claim] = None
        return True

    @contextmanager
    def held(self, host: str, is_spared: Callable[[], bool] = _never) -> Iterator[trio.CancelScope]:
        """Hold a slot while the block runs; eviction cancels the block.

        Without a free slot it is cancelled at once. `cancel_called` of its scope shows both.
        """
        with trio.CancelScope() as scope:
            claim = SlotClaim(host, scope.cancel, is_spared)
            if not self.admit(claim, trio.current_time()):
                scope.cancel()
            try:
                yield scope
            finally:
                self.give_back(claim)

    def give_back(self, claim: SlotClaim) -> None:
        """Release a slot that is no longer used, or was evicted."""
        self._held.pop(claim, None)

    def count(self, source: str) -> int:
        """Return the number of slots that a source holds."""
        return sum(claim.source == source for claim in self._held)

    def _strangers(self) -> list[SlotClaim]:
        """Return the slots that may be evicted, oldest first.

        They include the youngest protected ones if too many are protected.
        """
        spared = [claim for claim in self._held if claim.is_spared()]
        safe = set(spared[: self._total - max(1, self._total // FOR_STRANGERS)])
        return [claim for claim in self._held if claim not in safe]

    def _evict_one(
        self, rivals: list[SlotClaim], strangers: list[SlotClaim], newcomer: SlotClaim, now_s: float
    ) -> bool:
        """Evict the oldest where it is most crowded, counting the newcomer; return whether one was.

        The most crowded site is always evicted from for other sites. Within a site holders take
        turns: reconnecting repeatedly gains nothing.
        """
        everybody = [*strangers, newcomer]
        of_site = Counter(claim.site for claim in everybody)
        of_source = Counter(claim.source for claim in everybody)

        def crowd(claim: SlotClaim) -> tuple[int, int, bool]:
            return of_site[claim.site], of_source[claim.source], claim.site != newcomer.site

        loser = max(rivals, key=crowd)
        is_due = now_s - loser.since_s >= self._turn_s or newcomer.is_spared()
        if loser.site == newcomer.site and not is_due:
            return False
        del self._held[loser]
        loser.evict()
        return True
