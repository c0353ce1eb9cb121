"""Validation of gossip: times and copies against published runs, and both fidelities to the tick.

Spec: specs/validation.md#gossip.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from node.simulator.engine import TICKS_PER_MS
from node.simulator.gossip import FlowGossip, MessageGossip, TopicGossip
from node.simulator.seeds import bits
from node.simulator.simulation import FLOW, Simulation, World
from node.simulator.world.latency import Latency, Links, Regions
from node.simulator.world.supply import Equal
from protocol.rules.topics import call_topic
from protocol.wire.envelope import Signed
from protocol.wire.job import QUICK, Resources
from protocol.wire.messages import Call
from scripts.validate_studies import Effort, Study, Target, near

CLASSES: Final = 5
LEAST_MS, MOST_MS = 40, 130
LONGEST_TICKS: Final = 100_000
DEGREE: Final = 8
PEERS: Final = 2_000
GROWING: Final = (3_000, 6_000, 9_000, 12_000)
PUBLISHED_MS: Final = (980, 1_050, 1_070, 1_110)
GROWTH_PERCENT: Final = 100 * (PUBLISHED_MS[-1] / PUBLISHED_MS[0] - 1)
SMALL_WORLDS: Final = ((20, 2), (60, 4), (300, 8), (1_000, 6), (1_000, 12))
"""Members and degrees."""


@dataclass(frozen=True, slots=True)
class LatencyClasses:
    """The five classes of Vac's topogen.py: the later a class, the shorter its ways."""

    def links(self, nodes: int, seed: int) -> Links:  # noqa: ARG002 - as other models.
        step = (MOST_MS - LEAST_MS) // CLASSES
        base = np.zeros((CLASSES, CLASSES), np.int32)
        for one in range(CLASSES):
            base[one, one] = max((CLASSES - one) * step, LEAST_MS)
            for other in range(one + 1, CLASSES):
                way_ms = min((CLASSES - other) * step + LEAST_MS, MOST_MS)
                base[one, other] = base[other, one] = way_ms
        return _ClassLinks(np.arange(nodes) % CLASSES, base * TICKS_PER_MS)


@dataclass(slots=True)
class _ClassLinks:
    region: NDArray[np.int64]
    base: NDArray[np.int32]
    regions: tuple[str, ...] = ("",) * CLASSES

    def ticks(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int32]:
        return self.base[self.region[one], self.region[other]]


@dataclass(slots=True)
class Spread:
    """How one message spread."""

    arrivals: dict[int, int] = field(default_factory=dict)
    """In ticks since it was published, by the number of the node."""
    transmissions: int = 0
    duplicates: int = 0

    @property
    def longest_ms(self) -> float:
        return max(self.arrivals.values()) / TICKS_PER_MS


@dataclass(frozen=True, slots=True)
class Topology:
    """A topic and its members; authors send to as many of them as a member has neighbours."""

    members: int
    degree: int = DEGREE
    latency: Latency = LatencyClasses()
    offline_percent: int = 0


def spreads(topology: Topology, kind: type[TopicGossip], authors: int, seed: int) -> list[Spread]:
    """Let each of some authors publish a call that all may answer; return how each call spread."""
    nodes = topology.members + authors
    world = World(nodes, authors, topology.degree, latency=topology.latency, supply=Equal())
    simulation = Simulation(world, FLOW, seed)
    population, engine = simulation.population, simulation.engine
    drawn = bits(seed, "validation/offline", nodes) % np.uint64(100)
    population.online[authors:] = drawn[authors:] >= topology.offline_percent
    now: list[Spread] = []

    def deliver(number: int, signed: Signed[Any], author: int) -> None:
        now[-1].arrivals[number] = engine.now - began

    gossip = kind(engine, population, deliver, topology.degree, seed)
    gossip.connections = topology.degree
    call = Call(bytes(16), QUICK, 0, Resources(), 100, 1_000, 100, 0, 2_000, 0, bytes(32), 0)
    for number in range(authors):
        now.append(Spread())
        began, before = engine.now, (gossip.traffic.transmissions, gossip.traffic.duplicates)
        author = simulation.network.node(number)
        assert author is not None
        envelope = population.identities.signer(number).sign(call).envelope
        gossip.publish(author, call_topic(call), envelope)
        engine.run(began + LONGEST_TICKS)
        now[-1].transmissions = gossip.traffic.transmissions - before[0]
        now[-1].duplicates = gossip.traffic.duplicates - before[1]
    return now


def differences(one: Sequence[Spread], other: Sequence[Spread]) -> int:
    """Return in how many figures two fidelities differ: arrivals, transmissions, duplicates."""
    found = 0
    for ours, theirs in zip(one, other, strict=True):
        found += len(ours.arrivals.items() ^ theirs.arrivals.items())
        found += ours.transmissions != theirs.transmissions
        found += ours.duplicates != theirs.duplicates
    return found


def _deliver(effort: Effort, seed: int) -> Mapping[str, float]:
    """Measure how long a small message takes to all of 2,000 peers."""
    flow = spreads(Topology(PEERS), FlowGossip, effort.publishers, seed)
    message = spreads(Topology(PEERS), MessageGossip, effort.publishers, seed)
    return {"V1": _mean_ms(flow), "V1 both": differences(flow, message)}


def _grow(effort: Effort, seed: int) -> Mapping[str, float]:
    """Measure how the time and the copies change with the size of the network."""
    found = [spreads(Topology(n), FlowGossip, effort.publishers, seed) for n in GROWING]
    growth = 100 * (_mean_ms(found[-1]) / _mean_ms(found[0]) - 1)
    copies = sum(spread.duplicates for spread in found[0]) / GROWING[0] / effort.publishers
    return {"V1b": growth, "V1b copies": copies}


def _agree(effort: Effort, seed: int) -> Mapping[str, float]:
    """Count the differences between flow and message, with and without nodes that are away."""
    found = {"V6": 0, "V6 away": 0}
    for members, degree in SMALL_WORLDS:
        for latency in (LatencyClasses(), Regions()):
            for key, percent in (("V6", 0), ("V6 away", 30)):
                topology = Topology(members, degree, latency, percent)
                both = [spreads(topology, kind, 2, seed) for kind in (FlowGossip, MessageGossip)]
                found[key] += differences(*both)
    return found


def _mean_ms(found: Sequence[Spread]) -> float:
    return math.fsum(spread.longest_ms for spread in found) / len(found)


VAC_2024: Final = (
    "Vac, rlog 2024-10-28 and gsub-largemsg-improvements of 2024-10-31; topogen.py of"
    " vacp2p/dst-gossipsub-test-node"
)
VAC_2025: Final = "Vac, rlog of 2025-08-12 (chart), 150 KB"
STUDIES: Final = (
    Study("V1 gossip delivery", _deliver, (
        Target("V1", "to all of 2,000 peers, mesh degree 8, 1 KB (ms)", "370 ± 12 %",
               *near(370, 12), VAC_2024, 0),
        Target("V1 both", "differences between flow and message in that network", "0",
               0, 0, "both are exact", 0),
    )),
    Study("V1b gossip growth", _grow, (
        Target("V1b", "more time for 12,000 than for 3,000 peers (%)", "13 ± 5",
               GROWTH_PERCENT - 5, GROWTH_PERCENT + 5, VAC_2025, 1),
        Target("V1b copies", "duplicates per peer, degree 8, without IDONTWANT", "3 to 6",
               DEGREE / 2 - 1, DEGREE - 2 + 0.02, VAC_2025, 2),
    )),
    Study("V6 flow and message", _agree, (
        Target("V6", "differences in arrivals, transmissions, duplicates", "0",
               0, 0, "both are exact", 0),
        Target("V6 away", "the same with 30 % of the nodes away", "0", 0, 0, "both are exact", 0),
    )),
)  # fmt: skip
