"""The nodes of a world, as arrays: what each lends, where it is, and whether it is there.

A node gets a core when it first has something to decide. Until then it is a number here: fifty
bytes. Spec: specs/simulation.md#nodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from node.simulator.identities import Identities
from node.simulator.world.adversaries import Adversaries
from node.simulator.world.latency import Links
from node.simulator.world.pricing import DrawnFloors, Pricing
from node.simulator.world.supply import LentMachine, Supply
from protocol.core.presence import record_of
from protocol.machines.context import Context, Policy
from protocol.rules.topics import topics_of
from protocol.values.ids import Digest
from protocol.wire.messages import CapabilityRecord

DRIVER = "simulated"


@dataclass(slots=True)
class Population:
    """All nodes of a world. The first `requesters` submit jobs and lend nothing."""

    identities: Identities
    links: Links
    requesters: int
    kinds: Sequence[LentMachine]
    kind: NDArray[np.int64]
    price_percent: NDArray[np.int64]
    online: NDArray[np.bool_]
    pricing: Pricing = field(default_factory=DrawnFloors)
    adversaries: Mapping[int, Adversaries] = field(default_factory=dict)
    """The nodes that break the rules, and how."""
    floors: dict[int, int] = field(default_factory=dict)
    """Floors that are not as the pricing model draws them, in percent of the list price."""
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
        floor = self.floors.get(number)
        if floor is None:
            secret = self.identities.signer(number).secret(b"floor", b"")
            floor = self.pricing.floor_percent(secret)
        return replace(self._policy(self._alike(number)), floor_percent=floor)

    def images(self, number: int) -> tuple[Digest, ...]:
        """Return the images that a node has from the start."""
        return () if number < self.requesters else self.kinds[int(self.kind[number])].images

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
        return Policy(
            True, kind.capacity, kind.prices(percent), region=self.links.regions[region],
            driver=DRIVER, pause_memory_mib=kind.capacity.memory_mib // 2,
        )  # fmt: skip


def populate(
    identities: Identities, links: Links, supply: Supply, sizes: tuple[int, int], seed: int
) -> Population:
    """Return a world's nodes; `sizes` are how many there are and how many of them submit jobs."""
    nodes, requesters = sizes
    kind, price = supply.kind_of(nodes, seed), supply.price_percent(nodes, seed)
    online = np.ones(nodes, np.bool_)
    return Population(identities, links, requesters, supply.kinds, kind, price, online)
