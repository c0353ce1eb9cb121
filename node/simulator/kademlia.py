"""Kademlia message by message: whom nodes know, and how they look others up in virtual time.

Tables are those of a network that has converged: a bucket holds k of the nodes that belong there,
chosen at random, or all of them. They are arrays: 100,000 nodes need 110 MB.

Source: Maymounkov and Mazières, Kademlia (IPTPS 2002). Spec: specs/validation.md#kademlia.
"""

import hashlib
from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

import numpy as np
from numpy.typing import NDArray

from node.simulator.engine import TICKS_PER_MS, Engine
from node.simulator.seeds import bits

ID_BITS: Final = 256
KEY_BITS: Final = 64
"""The head of an id that sorts the nodes: two of a million have the same with p = 3 · 10⁻⁸."""
Delay = Callable[[int, int], int]
"""Returns how many ticks a message between two nodes takes."""
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LookupRules:
    """How a node looks up the nodes closest to an id."""

    k: int = 20
    """How many nodes an answer names, and how many the lookup is for."""
    parallel: int = 3
    """How many requests are on their way at most (alpha in the paper)."""
    timeout_ms: int = 4_000
    """How long a request is waited for (specs/dht.md#limits)."""
    limit_ms: int = 30_000
    """How long new requests are sent."""
    in_rounds: bool = False
    """Whether a round of requests ends before the next begins; the first one that names no node
    closer than those known ends the lookup. Otherwise each answer makes room for a request, and the
    lookup ends when the k closest nodes have answered."""


PAPER: Final = LookupRules()
"""As in the paper of 2002."""
LIBP2P: Final = LookupRules(parallel=10, in_rounds=True)
"""As in py-libp2p 0.8.1, which our nodes run."""


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What a lookup brought."""

    closest: tuple[int, ...]
    """The closest nodes that it heard of, less those that failed, closest first."""
    found: bool
    """Whether the closest honest node that is online is among them."""
    hops: int
    """The depth at which this node was named: 1 in the own table; 0 if it was not found."""
    requests: int
    ticks: int
    """From the first request to the end."""


@dataclass(slots=True)
class RoutingTables:
    """The routing tables of all nodes, by number."""

    ids: list[int]
    keys: NDArray[np.uint64]
    """The first bits of each id."""
    entries: NDArray[np.int32]
    """The numbers of the nodes in all buckets: node by node, bucket by bucket."""
    bounds: NDArray[np.int64]
    """Where each bucket begins, and the end of the last."""
    depth: int
    """How many buckets each node has; in number b are those with which it shares b first bits."""

    def closest(
        self, number: int, target: int, count: int, dropped: NDArray[np.bool_] | None = None
    ) -> list[int]:
        """Return the nodes in one node's table that are closest to an id, closest first.

        `dropped` says who is in no table any more.
        """
        ids, found = self.ids, list[int]()
        for first, end in self._by_distance(number, target):
            entries = self.entries[first:end]
            group = (entries if dropped is None else entries[~dropped[entries]]).tolist()
            found += sorted(group, key=lambda other: ids[other] ^ target)
            if len(found) >= count:
                break
        return found[:count]

    def nearest(self, target: int, allowed: NDArray[np.bool_]) -> int:
        """Return the closest to an id of those nodes that are allowed; -1 if none is."""
        numbers = np.flatnonzero(allowed)
        if not numbers.size:
            return -1
        head = np.uint64(target >> (ID_BITS - KEY_BITS))
        return int(numbers[(self.keys[numbers] ^ head).argmin()])

    def _by_distance(self, number: int, target: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of entries: all of one are closer to the target than those of the next."""
        shared = min(ID_BITS - (self.ids[number] ^ target).bit_length(), self.depth)
        first = number * self.depth
        bounds = self.bounds[first : first + self.depth + 1].tolist()
        if shared < self.depth:
            yield bounds[shared], bounds[shared + 1]  # They share more bits with the target.
            yield bounds[shared + 1], bounds[self.depth]  # They share as many.
        for bucket in range(shared - 1, -1, -1):
            yield bounds[bucket], bounds[bucket + 1]


def make_tables(nodes: int, k: int, seed: int) -> RoutingTables:
    """Return the tables of so many nodes whose ids follow from their numbers and the seed."""
    names = (f"{seed}/kademlia/{number}".encode() for number in range(nodes))
    ids = [int.from_bytes(hashlib.sha256(name).digest()) for name in names]
    keys = np.array([each >> (ID_BITS - KEY_BITS) for each in ids], np.uint64)
    order = np.argsort(keys, kind="stable")
    subtrees = list(_siblings(keys[order]))
    sizes = np.zeros((nodes, len(subtrees)), np.int64)
    for bucket, (_, size) in enumerate(subtrees):
        sizes[order, bucket] = np.minimum(size, k)
    bounds = np.concatenate([np.zeros(1, np.int64), sizes.ravel().cumsum()])
    entries = np.empty(int(bounds[-1]), np.int32)
    columns = np.arange(k)
    for bucket, (low, size) in enumerate(subtrees):
        filled = np.flatnonzero(size)
        drawn = bits(seed, f"kademlia/bucket {bucket}", k * len(filled)).reshape(k, -1)
        places = low[filled] + _sample(size[filled], drawn)
        start = bounds[order[filled] * len(subtrees) + bucket]
        is_entry = columns[:, np.newaxis] < size[filled]
        entries[(start + columns[:, np.newaxis])[is_entry]] = order[places[is_entry]]
    return RoutingTables(ids, keys, entries, bounds, len(subtrees))


def _siblings(keys: NDArray[np.uint64]) -> Iterator[tuple[Places, Places]]:
    """Yield for each depth where the subtree beside that of each node begins, and its size.

    `keys` are sorted; a subtree is all that share so many first bits, hence a range of places.
    """
    low = np.zeros(len(keys), np.int64)
    high = np.full(len(keys), len(keys), np.int64)
    for depth in range(KEY_BITS):
        if not (high - low > 1).any():
            return
        bit = np.uint64(1 << (KEY_BITS - 1 - depth))
        upper = (keys | bit) & ~(bit - np.uint64(1))
        middle = np.clip(np.searchsorted(keys, upper), low, high)
        is_upper = (keys & bit) > 0
        yield np.where(is_upper, low, middle), np.where(is_upper, middle - low, high - middle)
        low, high = np.where(is_upper, middle, low), np.where(is_upper, high, middle)


def _sample(sizes: Places, drawn: NDArray[np.uint64]) -> Places:
    """Return a column for each size: different numbers below it, as many as there are rows drawn.

    All sets are equally likely (Floyd's algorithm). A size below that number has all of its numbers
    first; the rest of its column means nothing.
    """
    count = len(drawn)
    chosen = np.empty(drawn.shape, np.int64)
    for row in range(count):
        last = np.maximum(sizes - count + row, row)
        choice = (drawn[row] % (last + 1).astype(np.uint64)).astype(np.int64)
        is_known = (chosen[:row] == choice).any(axis=0)
        chosen[row] = np.where(is_known | (sizes <= count), last, choice)
    return np.where(chosen < np.maximum(sizes, 1), chosen, 0)


class Kademlia:
    """Nodes that answer each other's requests."""

    def __init__(
        self, engine: Engine, tables: RoutingTables, delay: Delay, rules: LookupRules = PAPER
    ) -> None:
        self.engine = engine
        self.tables = tables
        self.delay = delay
        self.rules = rules
        self.online = np.ones(len(tables.ids), np.bool_)
        """Who answers; all others cost their askers a time-out."""
        self.dropped = np.zeros(len(tables.ids), np.bool_)
        """Who is in no table any more."""
        self.liars = np.zeros(len(tables.ids), np.bool_)
        """Who names nobody but the liars that are closest to the target (an eclipse attack)."""

    def look_up(self, source: int, target: int, then: Callable[[LookupResult], None]) -> None:
        """Let a node look up an id; the result comes in virtual time."""
        _Lookup(self, source, target, then).start()

    def run(self, source: int, target: int) -> LookupResult:
        """Look up an id, and let everything happen until it has ended."""
        results: list[LookupResult] = []
        self.look_up(source, target, results.append)
        has_ended = self.engine.run_until(lambda: bool(results), self.engine.next_tick() + 10**9)
        assert has_ended
        return results[0]


_NEW, _ASKED, _ANSWERED, _FAILED = range(4)


class _Lookup:
    """One lookup."""

    def __init__(
        self, network: Kademlia, source: int, target: int, then: Callable[[LookupResult], None]
    ) -> None:
        self._network = network
        self._rules = network.rules
        self._source = source
        self._target = target
        self._then = then
        self._began = network.engine.now
        self._heard: list[tuple[int, int]] = []
        """Distance and number of all nodes that were named, closest first."""
        self._state: dict[int, int] = {source: _FAILED}  # A node does not ask itself.
        self._depth: dict[int, int] = {}
        self._requests = 0
        self._waiting = 0
        self._is_named = True
        """Whether an answer has come since the last round began."""
        self._last_round: list[int] = []
        self._lie: list[int] | None = None
        self._has_ended = False

    def start(self) -> None:
        """Begin with the nodes in the own table."""
        self._hear(self._named_by(self._source), 1)
        self._advance()

    def _hear(self, numbers: list[int], depth: int) -> None:
        ids = self._network.tables.ids
        for number in numbers:
            if number not in self._state:
                self._state[number], self._depth[number] = _NEW, depth
                insort(self._heard, (ids[number] ^ self._target, number))

    def _closest(self) -> list[int]:
        """Return the k closest; in rounds, libp2p keeps those that failed."""
        closest: list[int] = []
        for _, number in self._heard:
            if self._rules.in_rounds or self._state[number] != _FAILED:
                closest.append(number)
                if len(closest) == self._rules.k:
                    break
        return closest

    def _advance(self) -> None:
        """Send the requests for which there is room; end if there is nothing to wait for."""
        if self._has_ended or (self._rules.in_rounds and self._waiting):
            return
        closest, state = self._closest(), self._state
        fresh = [] if self._is_over(closest) else [n for n in closest if state[n] == _NEW]
        for number in fresh[: self._rules.parallel - self._waiting]:
            self._request(number)
        if not fresh and not any(state[number] == _ASKED for number in closest):
            self._end()

    def _is_over(self, closest: list[int]) -> bool:
        """Return whether nobody else is asked."""
        passed = self._network.engine.now - self._began
        is_still = self._rules.in_rounds and self._is_named and closest == self._last_round
        self._last_round, self._is_named = closest, False
        return is_still or passed >= self._rules.limit_ms * TICKS_PER_MS

    def _request(self, number: int) -> None:
        self._state[number] = _ASKED
        self._requests += 1
        self._waiting += 1
        engine, delay = self._network.engine, self._network.delay(self._source, number)
        engine.after(delay, self._arrive, number, delay)
        engine.after(self._rules.timeout_ms * TICKS_PER_MS, self._take, number, None)

    def _arrive(self, number: int, delay: int) -> None:
        """Let a node answer, if it is there."""
        if self._network.online[number]:
            self._network.engine.after(delay, self._take, number, self._answer(number))

    def _answer(self, number: int) -> list[int]:
        tables, k = self._network.tables, self._rules.k
        if not self._network.liars[number]:
            return self._named_by(number)
        if self._lie is None:
            liars = np.flatnonzero(self._network.liars).tolist()
            self._lie = nsmallest(k, liars, key=lambda liar: tables.ids[liar] ^ self._target)
        return self._lie

    def _named_by(self, number: int) -> list[int]:
        """Return whom an honest node names."""
        network = self._network
        return network.tables.closest(number, self._target, self._rules.k, network.dropped)

    def _take(self, number: int, answer: list[int] | None) -> None:
        """Take an answer, or do without it."""
        if self._state[number] != _ASKED:
            return  # It came before its time-out, or the other way round.
        self._waiting -= 1
        self._state[number] = _FAILED if answer is None else _ANSWERED
        if answer:
            self._is_named = True
            self._hear(answer, self._depth[number] + 1)
        self._advance()

    def _end(self) -> None:
        self._has_ended = True
        network = self._network
        allowed = network.online & ~network.liars
        allowed[self._source] = False
        wanted = network.tables.nearest(self._target, allowed)
        closest = tuple(n for n in self._closest() if self._state[n] != _FAILED)
        hops = self._depth[wanted] if wanted in closest else 0
        took = network.engine.now - self._began
        self._then(LookupResult(closest, hops > 0, hops, self._requests, took))
