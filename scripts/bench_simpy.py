"""The same auction in SimPy, as a researcher would model it by hand: a process for each node.

Why: it is what most people would use otherwise. It has a flood over the same kind of mesh, a
lottery, sealed bids and a second price, and nothing else of what the node does. It runs in the
environment of the peers (bench_peers.py).
Spec: specs/simulation.md#speed.
"""

import gc
import json
import random
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import simpy

DEGREE, WANTED = 8, 32
WINDOW_MS = 1_000
AUCTIONS = 2


class Network:
    """Nodes in a mesh; each forwards what it has not seen."""

    def __init__(self, nodes: int) -> None:
        chance = self.chance = random.Random(1)
        self.environment = simpy.Environment()
        self.inboxes = [simpy.Store(self.environment) for _ in range(nodes)]
        self.neighbours: list[list[tuple[int, float]]] = [[] for _ in range(nodes)]
        for _ in range(DEGREE // 2):
            ring = chance.sample(range(nodes), nodes)
            for one, other in zip(ring, ring[1:] + ring[:1], strict=True):
                delay = chance.uniform(20, 130)
                self.neighbours[one].append((other, delay))
                self.neighbours[other].append((one, delay))
        self.bids: list[tuple[float, int]] = []
        self.events = 0
        for number in range(nodes):
            self.environment.process(self.node(number, chance.random()))

    def node(self, number: int, cost: float) -> Iterator[Any]:
        """Take messages for ever."""
        seen: set[int] = set()
        while True:
            call, sender, share = yield self.inboxes[number].get()
            self.events += 1
            if call in seen:
                continue
            seen.add(call)
            for neighbour, delay in self.neighbours[number]:
                if neighbour != sender:
                    self.environment.process(self.send(neighbour, delay, (call, number, share)))
            if self.chance.random() < share:
                self.environment.process(self.bid(number, cost))

    def send(self, receiver: int, delay: float, message: tuple[int, int, float]) -> Iterator[Any]:
        """Bring a message to a node."""
        yield self.environment.timeout(delay)
        yield self.inboxes[receiver].put(message)

    def bid(self, number: int, cost: float) -> Iterator[Any]:
        """Commit, hear the set, and open the bid."""
        for _ in range(3):
            yield self.environment.timeout(50)
            self.events += 1
        self.bids.append((cost, number))

    def auction(self, call: int) -> Iterator[Any]:
        """Call for bids; sell to the lowest at the second price."""
        self.bids.clear()
        for neighbour, delay in self.neighbours[0]:
            share = WANTED / len(self.inboxes)
            self.environment.process(self.send(neighbour, delay, (call, 0, share)))
        yield self.environment.timeout(WINDOW_MS)
        self.bids.sort()


def main(nodes: int) -> dict[str, float]:
    """Return what an auction costs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gc.disable()
    network = Network(nodes)
    costs = []
    for number in range(AUCTIONS):
        began, events = time.process_time(), network.events
        network.environment.run(network.environment.process(network.auction(number)))
        costs.append((time.process_time() - began, network.events - events))
    seconds, events = min(costs)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "auction_s": round(seconds, 4), "events": events, "events_per_s": round(events / seconds),
        "bytes_per_node": round((memory - before) * 1024 / nodes), "memory_mib": memory // 1024,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
