"""Looks up the addresses of nodes that others want to reach, in a Kademlia DHT in virtual time.

All nodes serve the DHT. Their tables are those of a network that has converged; who goes is dropped
from all of them a while later, and is in them again as soon as it is back.
Spec: specs/simulation.md#directory.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from node.simulator.engine import TICKS_PER_MS, Engine
from node.simulator.kademlia import Delay, Kademlia, LookupResult, LookupRules, make_tables

DROPPED_MS: Final = 120_000
"""Tables are refreshed as often (specs/dht.md#peers): then a node that has gone is in none."""


class AddressLookup(NamedTuple):
    """One lookup that has ended."""

    at_ms: int
    """When it began."""
    seeker: int
    wanted: int
    found: bool
    """Whether the node is there, and was named in time."""
    hops: int
    """The depth at which it was named; 0 if it was not found."""
    requests: int
    took_ms: int


class AddressLookups:
    """Who knows whose addresses, and the DHT in which they are found."""

    def __init__(
        self, engine: Engine, delay: Delay, online: NDArray[np.bool_], rules: LookupRules, seed: int
    ) -> None:
        """Take the time, latencies, who is there at any time, and how they look each other up."""
        self._dht = Kademlia(engine, make_tables(len(online), rules.k, seed), delay, rules)
        self._dht.online = online
        self._engine = engine
        self._known: set[tuple[int, int]] = set()
        """Pairs of nodes of which the first knows an address of the second."""
        self._waiting: dict[tuple[int, int], list[Callable[[], object]]] = {}
        """What follows, by who looks for whom."""
        self._gone: dict[int, int] = {}
        """The ticks at which nodes have gone."""
        self.ended: list[Callable[[AddressLookup], None]] = []
        """Are told of each lookup that has ended."""

    def find(self, seeker: int, wanted: int, then: Callable[[], object]) -> None:
        """Call something once a node knows an address of another; never if it is not found."""
        pair = seeker, wanted
        if pair in self._known:
            then()
        elif pair in self._waiting:
            self._waiting[pair].append(then)
        else:
            self._waiting[pair] = [then]
            began = self._engine.now

            def end(result: LookupResult) -> None:
                self._end(pair, began, result)

            self._dht.look_up(seeker, self._dht.tables.ids[wanted], end)

    def change(self, number: int, online: bool) -> None:  # noqa: FBT001 - as it is told.
        """Note that a node goes or comes back."""
        if online:
            self._gone.pop(number, None)
            self._dht.dropped[number] = False
        else:
            now = self._gone[number] = self._engine.now
            self._engine.after(DROPPED_MS * TICKS_PER_MS, self._drop, number, now)

    def _drop(self, number: int, since: int) -> None:
        self._dht.dropped[number] |= self._gone.get(number) == since

    def _end(self, pair: tuple[int, int], began: int, result: LookupResult) -> None:
        seeker, wanted = pair
        limit_ms, took_ms = self._dht.rules.limit_ms, result.ticks // TICKS_PER_MS
        found = wanted in result.closest and result.found and took_ms <= limit_ms
        following = self._waiting.pop(pair)
        lookup = AddressLookup(
            began // TICKS_PER_MS, seeker, wanted, found, result.hops if found else 0,
            result.requests, min(took_ms, limit_ms),
        )  # fmt: skip
        for ended in self.ended:
            ended(lookup)
        if found:
            self._known.add(pair)
            for then in following:
                then()
