"""The nodes of a world, as arrays: what each lends, where it is, and whether it is there.

A node gets a core when it first has something to decide. Until then it is a number here: fifty
bytes. Spec: specs/simulation.md#nodes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from node.simulator.identities import Identities
from node.simulator.world.adversaries import Adversaries
from node.simulator.world.latency import Links
from node.simulator.world.pricing import DrawnFloors, Pricing
from node.simulator.world.supply import MachineKind, Supply
from protocol.core.presence import record_of
from protocol.machines.context import Context, Policy
from protocol.rules.capacity import Capacity, Device
from protocol.rules.pricing import PERCENT
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
    kinds: tuple[MachineKind, ...]
    kind: NDArray[np.int64]
    price_percent: NDArray[np.int64]
    online: NDArray[np.bool_]
    pricing: Pricing = field(default_factory=DrawnFloors)
    adversaries: Mapping[int, Adversaries] = field(default_factory=dict)
    """The nodes that break the rules, and how."""
    _policies: dict[tuple[int, int, int], Policy] = field(default_factory=dict)
    """Those of nodes that lend, by kind, price and region, without what is the node's own."""
    _records: dict[tuple[int, int, int], CapabilityRecord] = field(default_factory=dict)

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
        if number < self.requesters:
            return Policy(region=self.links.regions[self.links.region[number]])
        secret = self.identities.signer(number).secret(b"floor", b"")
        floor = self.pricing.floor_percent(secret)
        return replace(self._policy(self._alike(number)), floor_percent=floor)

    def record(self, number: int, now_ms: int) -> CapabilityRecord:
        """Return the record of a node that lends, as of a time. Nodes that are alike share one."""
        if number in self.adversaries:
            context = Context(now_ms, self.identities.signer(number), self.policy(number))
            return record_of(context, 1)
        kind = self._alike(number)
        known = self._records.get(kind)
        if known is None or known.issued_ms != now_ms:
            context = Context(now_ms, self.identities.signer(number), self._policy(kind))
            known = self._records[kind] = record_of(context, 1)
        return known

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

    def _alike(self, number: int) -> tuple[int, int, int]:
        return (
            int(self.kind[number]), int(self.price_percent[number]), int(self.links.region[number])
        )  # fmt: skip

    def _policy(self, alike: tuple[int, int, int]) -> Policy:
        known = self._policies.get(alike)
        if known is None:
            known = self._policies[alike] = self._policy_of(*alike)
        return known

    def _policy_of(self, kind_number: int, percent: int, region: int) -> Policy:
        kind = self.kinds[kind_number]
        devices = tuple(
            Device(f"GPU-{place}", kind.gpu_class, kind.vram_gib * GIB)
            for place in range(kind.gpus)
        )
        prices = Prices(kind.cpu_rate * percent // PERCENT, 0, kind.gpu_rate * percent // PERCENT)
        capacity = Capacity(kind.cpus, kind.memory_mib, DISK_MIB, devices)
        return Policy(
            True, capacity, prices, region=self.links.regions[region], driver=DRIVER,
            pause_memory_mib=kind.memory_mib // 2,
        )  # fmt: skip


def populate(
    identities: Identities, links: Links, supply: Supply, sizes: tuple[int, int], seed: int
) -> Population:
    """Return a world's nodes; `sizes` are how many there are and how many of them submit jobs."""
    nodes, requesters = sizes
    kind, price = supply.kind_of(nodes, seed), supply.price_percent(nodes, seed)
    online = np.ones(nodes, np.bool_)
    return Population(identities, links, requesters, supply.kinds, kind, price, online)
