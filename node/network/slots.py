"""Places of which there are few, and who holds them: connections, handshakes, streams of the DHT.

Identities cost nothing, addresses do. So places are shared out by where their holders come from: a
source is the address of one household, a site is what is routed, and sold, as one. Nobody takes all
places, and whoever comes from elsewhere finds one.

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
"""One place in so many is never spared: strangers find one, however many peers are known."""


def _never() -> bool:
    return False


@dataclass(eq=False, slots=True)
class SlotClaim:
    """A place that is wanted or held.

    `evict` is called when the place is given to another; it must not block. `is_spared` says
    whether that may not happen, now. `shares_source` is false where the source has no say: a
    connection that we dialled.
    """

    host: str
    evict: Callable[[], object]
    is_spared: Callable[[], bool] = _never
    shares_source: bool = True
    since_s: float = 0
    source: str = field(init=False)
    site: str = field(init=False)

    def __post_init__(self) -> None:
        """Find source and site of the host, an IP address; any other text is its own."""
        self.source = source_of(self.host)
        self.site = site_of(self.host)


class Slots:
    """Hands out `total` slots, of which one source gets `per_source` at most.

    `turn_s` seconds long, nobody has to give way to another of the same site.
    """

    def __init__(self, total: int, per_source: int, turn_s: float) -> None:
        self._total = total
        self._per_source = per_source
        self._turn_s = turn_s
        self._held: dict[SlotClaim, None] = {}  # The oldest first.

    def __len__(self) -> int:
        return len(self._held)

    def admit(self, claim: SlotClaim, now_s: float) -> bool:
        """Say whether there is a place for a newcomer; if need be, evict another for it."""
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
        """Hold a place while the block runs, which is cancelled if it has to give way.

        It is cancelled at once if there is no place. `cancel_called` of its scope tells of both.
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
        """Free the place of whoever goes, or was evicted."""
        self._held.pop(claim, None)

    def count(self, source: str) -> int:
        """Return how many places a source holds."""
        return sum(claim.source == source for claim in self._held)

    def _strangers(self) -> list[SlotClaim]:
        """Return who may have to give way, the oldest first.

        Of those that are spared, the youngest are among them if there are too many.
        """
        spared = [claim for claim in self._held if claim.is_spared()]
        safe = set(spared[: self._total - max(1, self._total // FOR_STRANGERS)])
        return [claim for claim in self._held if claim not in safe]

    def _evict_one(
        self, rivals: list[SlotClaim], strangers: list[SlotClaim], newcomer: SlotClaim, now_s: float
    ) -> bool:
        """Evict the oldest where it is most crowded, counting the newcomer; say whether one went.

        A site that is the most crowded without the newcomer gives way for others at any time. For
        one of its own it takes turns: by coming again and again nobody wins a place.
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
