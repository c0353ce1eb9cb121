"""The nodes of a world, as arrays: what each lends, where it is, and whether it is there.

A node gets a core when it first has something to decide. Until then it is a number here: fifty
bytes. Spec: specs/simulation.md#nodes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from node.simulator.identities import Identities
from node.simulator.world.adversaries import Adversaries
from node.simulator.world.latency import Links
from node.simulator.world.supply import Kind, Supply
from protocol.core.presence import record_of
from protocol.machines.context import Context, Policy
from protocol.rules.capacity import Capacity, Device
from protocol.rules.pricing import PERCENT, floor_percent_of
from protocol.rules.topics import topics_of
from protocol.values.units import GIB
from protocol.wire.messages import CapabilityRecord, Prices

DISK_MIB = 100 * GIB
DRIVER = "simulated"


@dataclass(slots=True)
class Population:
    """All nodes of a world. The first `requesters` submit jobs and lend nothing."""

    identities: Identities
    links: Links
    requesters: int
    kinds: tuple[Kind, ...]
    kind: NDArray[np.int64]
    price_percent: NDArray[np.int64]
    online: NDArray[np.bool_]
    adversaries: Mapping[int, Adversaries] = field(default_factory=dict)
    """The nodes that break the rules, and how."""

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def providers(self) -> range:
        """The numbers of the nodes that lend."""
        return range(self.requesters, len(self))

    def policy(self, number: int) -> Policy:
        """Return what a node's owner allows."""
        deviates = self.adversaries.get(number)
        honest = self._honest_policy(number)
        return deviates.policy(honest) if deviates else honest

    def _honest_policy(self, number: int) -> Policy:
        region = self.links.regions[self.links.region[number]]
        if number < self.requesters:
            return Policy(region=region)
        kind, percent = self.kinds[self.kind[number]], int(self.price_percent[number])
        devices = tuple(
            Device(f"GPU-{place}", kind.gpu_class, kind.vram_gib * GIB)
            for place in range(kind.gpus)
        )
        prices = Prices(kind.cpu_rate * percent // PERCENT, 0, kind.gpu_rate * percent // PERCENT)
        secret = self.identities.signer(number).secret(b"floor", b"")
        return Policy(
            True, Capacity(kind.cpus, kind.memory_mib, DISK_MIB, devices), prices,
            floor_percent_of(secret), region, DRIVER, pause_memory_mib=kind.memory_mib // 2,
        )  # fmt: skip

    def record(self, number: int, now_ms: int) -> CapabilityRecord:
        """Return a node's record."""
        return record_of(self._context(number, now_ms), 1)

    def subscribers(self, topic: str) -> NDArray[np.int64]:
        """Return the numbers of the nodes that subscribe to a topic."""
        subscribe = np.zeros((len(self.kinds), len(self.links.regions)), np.bool_)
        lends = np.arange(len(self)) >= self.requesters
        for kind in range(len(self.kinds)):
            for region in range(len(self.links.regions)):
                alike = lends & (self.kind == kind) & (self.links.region == region)
                first = int(alike.argmax())
                if alike[first]:
                    subscribe[kind, region] = topic in topics_of(self.record(first, 1))
        chosen: NDArray[np.bool_] = subscribe[self.kind, self.links.region] & lends
        return np.flatnonzero(chosen)

    def _context(self, number: int, now_ms: int) -> Context:
        return Context(now_ms, self.identities.signer(number), self.policy(number))


def populate(
    identities: Identities, links: Links, supply: Supply, sizes: tuple[int, int], seed: int
) -> Population:
    """Return a world's nodes; `sizes` are how many there are and how many of them submit jobs."""
    nodes, requesters = sizes
    kind, price = supply.kind_of(nodes, seed), supply.price_percent(nodes, seed)
    online = np.ones(nodes, np.bool_)
    return Population(identities, links, requesters, supply.kinds, kind, price, online)
