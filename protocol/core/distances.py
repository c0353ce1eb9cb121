"""Which providers are too far from each other for a gang, as they measured themselves.

Spec: specs/gangs.md#round-trips. A requester cannot measure between two providers. Each of a pair
does, and the longer of the two round trips counts: nobody can make another's measurement shorter.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from protocol.machines.requester.award import Measuring
from protocol.values.ids import PeerId
from protocol.values.limits import FAR_MAX, FAR_MS
from protocol.wire.messages import NOT_MEASURED

Pair = tuple[PeerId, PeerId]
"""Two peers, sorted."""


@dataclass(frozen=True, slots=True)
class _Far:
    """A pair that was too far from each other."""

    round_trip_us: int | None
    """None if one of the two could not measure it."""
    until_ms: int


class Distances:
    """The pairs of providers that were too far from each other in the last minutes."""

    def __init__(self) -> None:
        self._far: dict[Pair, _Far] = {}
        """The oldest first."""

    def note(self, members: Iterable[Measuring], now_ms: int) -> str:
        """Take what the members of a gang have measured; return which are too far, or nothing."""
        found: dict[Pair, int | None] = {}
        limit_us = 0
        for member in members:
            placement = member.placement
            limit_us = placement.max_round_trip_us
            for other, took_us in zip(placement.others, member.round_trips_us, strict=True):
                pair = _pair(placement.provider, other)
                before_us = found.get(pair, took_us)
                is_known = took_us != NOT_MEASURED and before_us is not None
                found[pair] = max(took_us, before_us or 0) if is_known else None
        far = {pair: us for pair, us in found.items() if _is_over(us, limit_us)}
        for pair, us in far.items():
            self._far.pop(pair, None)
            self._far[pair] = _Far(us, now_ms + FAR_MS)
            if len(self._far) > FAR_MAX:
                del self._far[next(iter(self._far))]
        return _sentence(far, limit_us) if far else ""

    def expire(self, now_ms: int) -> None:
        """Forget what is too old."""
        while self._far and (first := next(iter(self._far))):
            if self._far[first].until_ms > now_ms:
                return
            del self._far[first]

    def are_far(self, peer: PeerId, others: Iterable[PeerId], limit_us: int) -> bool:
        """Return whether a peer is too far from one of others; `limit_us` 0 means nobody is."""
        if not limit_us or not self._far:
            return False
        known = (self._far.get(_pair(peer, other)) for other in others)
        return any(far is not None and _is_over(far.round_trip_us, limit_us) for far in known)

    def to_avoid(self, limit_us: int, seed: bytes) -> tuple[PeerId, ...]:
        """Return peers without which nobody is known to be too far from another.

        Who is too far from most goes first; `seed` chooses among equals, so that another seed may
        keep the other side.
        """
        if not limit_us:
            return ()
        pairs = [p for p, far in self._far.items() if _is_over(far.round_trip_us, limit_us)]
        avoided: list[PeerId] = []
        while pairs:
            counts = Counter(peer for pair in pairs for peer in pair)
            worst = max(counts, key=lambda peer: (counts[peer], _lot(seed, peer)))
            avoided.append(worst)
            pairs = [pair for pair in pairs if worst not in pair]
        return tuple(sorted(avoided))


def _pair(one: PeerId, other: PeerId) -> Pair:
    return (one, other) if one < other else (other, one)


def _is_over(round_trip_us: int | None, limit_us: int) -> bool:
    return round_trip_us is None or round_trip_us > limit_us


def _sentence(far: dict[Pair, int | None], limit_us: int) -> str:
    """Return one line about the pair that is farthest."""
    pair = max(far, key=lambda each: (far[each] is None, far[each] or 0))
    took_us = far[pair]
    names = " and ".join(f"…{peer[-8:]}" for peer in pair)
    took = "could not be measured" if took_us is None else f"is {took_us / 1000:.3f} ms"
    more = f" ({len(far)} pairs are too far)" if len(far) > 1 else ""
    return (
        f"the round trip between {names} {took}; the job wants at most {limit_us / 1000:g} ms{more}"
    )


def _lot(seed: bytes, peer: PeerId) -> bytes:
    return hashlib.sha256(seed + peer.encode()).digest()
