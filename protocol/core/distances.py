"""How far providers are from each other, as the members of gangs measured.

Spec: specs/gangs.md#measured-round-trips. A requester cannot measure between two providers. Each of
a pair does, and the longer of the two round trips counts: nobody can make another's measurement
shorter.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from protocol.machines.requester.award import Measuring
from protocol.values.ids import PeerId
from protocol.values.limits import DISTANCE_MS, DISTANCES_MAX
from protocol.wire.messages import NOT_MEASURED

Pair = tuple[PeerId, PeerId]
"""Two peers, sorted."""


@dataclass(frozen=True, slots=True)
class _Distance:
    """The round trip between two peers, in microseconds."""

    shorter_us: int
    """What one of the two measured ..."""
    longer_us: int
    """... and what the other one did."""
    until_ms: int = 0

    @property
    def is_known(self) -> bool:
        """Whether both could measure it."""
        return self.shorter_us != NOT_MEASURED

    def is_over(self, limit_us: int) -> bool:
        """Return whether it is too long. What cannot be measured is."""
        return not self.is_known or self.longer_us > limit_us

    def beyond_us(self, other: "_Distance") -> int:
        """Return how far two peers are at least from each other, from their distances to a third.

        This one and the other are these distances. A third that lies about one cannot enlarge it.
        """
        return self.shorter_us - other.longer_us if self.is_known and other.is_known else 0


class Distances:
    """The distances between providers that were measured in the last minutes."""

    def __init__(self) -> None:
        self._known: dict[Pair, _Distance] = {}
        """The oldest first."""
        self._from: dict[PeerId, dict[PeerId, _Distance]] = {}
        """The same, from each peer."""

    def note(self, members: Iterable[Measuring], now_ms: int) -> str:
        """Take what the members of a gang have measured; return which are too far, or nothing."""
        measured: dict[Pair, list[int]] = defaultdict(list)
        limit_us = 0
        for member in members:
            placement = member.placement
            limit_us = placement.max_round_trip_us
            for other, took_us in zip(placement.others, member.round_trips_us, strict=True):
                measured[_pair(placement.provider, other)].append(took_us)
        found = {
            pair: _Distance(min(took), max(took), now_ms + DISTANCE_MS)
            for pair, took in measured.items()
        }
        for pair, distance in found.items():
            self._remember(pair, distance)
        far = {pair: each for pair, each in found.items() if each.is_over(limit_us)}
        return _sentence(far, limit_us) if far else ""

    def expire(self, now_ms: int) -> None:
        """Forget what is too old."""
        while self._known and (oldest := next(iter(self._known))):
            if self._known[oldest].until_ms > now_ms:
                return
            self._forget(oldest)

    def are_far(self, peer: PeerId, others: Iterable[PeerId], limit_us: int) -> bool:
        """Return whether a peer is too far from one of others; `limit_us` 0: nobody is."""
        return limit_us > 0 and any(self._is_far(peer, other, limit_us) for other in others)

    def to_avoid(self, limit_us: int, seed: bytes) -> tuple[PeerId, ...]:
        """Return peers without which nobody is known to be too far from another.

        Who is too far from most goes first, so whole clusters do, the smaller ones first; `seed`
        chooses among equals.
        """
        conflicts: dict[PeerId, set[PeerId]] = defaultdict(set)
        for one, other in self._far_pairs(limit_us) if limit_us else ():
            conflicts[one].add(other)
            conflicts[other].add(one)
        avoided: list[PeerId] = []
        while conflicts:
            worst = max(conflicts, key=lambda peer: (len(conflicts[peer]), _lot(seed, peer)))
            for other in conflicts.pop(worst):
                conflicts[other].remove(worst)
                if not conflicts[other]:
                    del conflicts[other]
            avoided.append(worst)
        return tuple(sorted(avoided))

    def _is_far(self, peer: PeerId, other: PeerId, limit_us: int) -> bool:
        if (distance := self._known.get(_pair(peer, other))) is not None:
            return distance.is_over(limit_us)
        ours, theirs = self._from.get(peer, {}), self._from.get(other, {})
        return any(
            max(ours[third].beyond_us(theirs[third]), theirs[third].beyond_us(ours[third]))
            > limit_us
            for third in ours.keys() & theirs.keys()
        )

    def _far_pairs(self, limit_us: int) -> Iterator[Pair]:
        """Yield the pairs that measured a long round trip, and those that would."""
        for (one, other), distance in self._known.items():
            if distance.is_over(limit_us):
                yield one, other
                for end, third in ((one, other), (other, one)):
                    near = self._near(third, distance, limit_us)
                    yield from ((end, peer) for peer in near if self._is_unmeasured(end, peer))

    def _near(self, third: PeerId, distance: _Distance, limit_us: int) -> Iterator[PeerId]:
        """Yield peers so near to a third one that they are too far from who is so far from it."""
        measured = self._from[third].items()
        return (peer for peer, each in measured if distance.beyond_us(each) > limit_us)

    def _is_unmeasured(self, one: PeerId, other: PeerId) -> bool:
        return one != other and _pair(one, other) not in self._known

    def _remember(self, pair: Pair, distance: _Distance) -> None:
        if pair in self._known:
            self._forget(pair)
        self._known[pair] = distance
        for one, other in (pair, pair[::-1]):
            self._from.setdefault(one, {})[other] = distance
        if len(self._known) > DISTANCES_MAX:
            self._forget(next(iter(self._known)))

    def _forget(self, pair: Pair) -> None:
        del self._known[pair]
        for one, other in (pair, pair[::-1]):
            del self._from[one][other]
            if not self._from[one]:
                del self._from[one]


def _pair(one: PeerId, other: PeerId) -> Pair:
    return (one, other) if one < other else (other, one)


def _sentence(far: dict[Pair, _Distance], limit_us: int) -> str:
    """Return one line about the pair that is farthest."""
    pair = max(far, key=lambda each: (not far[each].is_known, far[each].longer_us))
    names = " and ".join(f"…{peer[-8:]}" for peer in pair)
    is_long = f"is {far[pair].longer_us / 1000:.3f} ms"
    took = is_long if far[pair].is_known else "could not be measured"
    more = f" ({len(far)} pairs are too far)" if len(far) > 1 else ""
    wanted = f"the job wants at most {limit_us / 1000:g} ms{more}"
    return f"the round trip between {names} {took}; {wanted}"


def _lot(seed: bytes, peer: PeerId) -> bytes:
    return hashlib.sha256(seed + peer.encode()).digest()
