"""One run: a world made from models and a seed, and what happens in it.

Spec: specs/simulation.md#runs.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final

from node.simulator.directory import SharedDirectory, SharedRecords
from node.simulator.eclipses import Eclipses
from node.simulator.engine import TICKS_PER_MS
from node.simulator.gossip import MILLION, FlowGossip, MessageGossip, TopicGossip
from node.simulator.identities import Keys, Numbers
from node.simulator.network import START_MS, SimulatedNetwork
from node.simulator.node import SimulatedNode
from node.simulator.paths import Paths
from node.simulator.population import populate
from node.simulator.seeds import stream
from node.simulator.world.adversaries import LENDERS, Adversaries, AnyCore, Conspiracy
from node.simulator.world.bandwidth import Bandwidth, EqualLines
from node.simulator.world.churn import Churn, PresenceChange, Steady
from node.simulator.world.defences import Defences, NoDefence
from node.simulator.world.demand import Arrival, JobDemand, Poisson, submission_of
from node.simulator.world.latency import Latency, Regions
from node.simulator.world.pricing import DrawnFloors, Pricing
from node.simulator.world.supply import Mix, Supply
from protocol.core.core import Core
from protocol.machines import inputs
from protocol.values.ids import JobId, PeerId
from protocol.wire.envelope import Signed
from protocol.wire.job import JobSpec

FLOW, MESSAGE = "flow", "message"
GOSSIP: Final[dict[str, type[TopicGossip]]] = {FLOW: FlowGossip, MESSAGE: MessageGossip}


@dataclass(frozen=True, slots=True)
class World:
    """The models of a world and its size."""

    nodes: int = 1_000
    requesters: int = 10
    degree: int = 8
    """How many neighbours a node has in the mesh of a topic."""
    _: KW_ONLY
    latency: Latency = field(default_factory=Regions)
    bandwidth: Bandwidth = field(default_factory=EqualLines)
    supply: Supply = field(default_factory=Mix)
    pricing: Pricing = field(default_factory=DrawnFloors)
    demand: JobDemand = field(default_factory=Poisson)
    churn: Churn = field(default_factory=Steady)
    defences: Defences = field(default_factory=NoDefence)
    crypto: bool = False
    loss_percent: float = 0.0
    """How much of the gossip is lost; only in the tier `message`."""
    silent_percent: float = 0.0
    """How many of the nodes that lend forward nothing; only in the tier `message`."""
    adversaries: tuple[Adversaries, ...] = ()


class Simulation:
    """A world in motion."""

    def __init__(self, world: World, tier: str, seed: int) -> None:
        identities = Keys(seed) if world.crypto else Numbers(seed)
        links = world.latency.links(world.nodes, seed)
        rates = world.bandwidth.rates(world.nodes, seed)
        sizes = world.nodes, world.requesters
        self.world = world
        self.seed = seed
        self.population = populate(identities, links, world.supply, sizes, seed)
        self.population.pricing = world.pricing
        self._eclipses = Eclipses()
        self.population.adversaries = self._adversaries()
        self.network = SimulatedNetwork(identities, Paths(links, rates), self._make)
        self.engine = self.network.engine
        self._gone_ms: dict[int, int] = {}
        self._records = SharedRecords(
            identities, self.population.providers,
            lambda number: self.population.record(number, START_MS), self._gone_ms,
        )  # fmt: skip
        deliver = self._deliver
        self.gossip = GOSSIP[tier](self.engine, self.population, deliver, world.degree, seed)
        self.gossip.watch(self.network.nodes.keys())
        if isinstance(self.gossip, MessageGossip):
            self.gossip.loss_ppm = round(world.loss_percent * MILLION / 100)
            self.gossip.silent = self._silent()
        self.gossip.captors = self._eclipses.captors
        self.network.gossip = self.gossip
        self._ids = stream(seed, "jobs")
        self.changed: list[Callable[[int, bool], None]] = []
        """Are told of each node that goes or comes back, before it does."""

    def run(self, horizon_ms: int) -> None:
        """Let the demand come and everything happen, up to the horizon."""
        self.start(horizon_ms)
        self.advance(horizon_ms)

    def start(self, horizon_ms: int) -> None:
        """Make the requesters, and schedule the demand and the churn."""
        for number in range(self.world.requesters):
            self._meet(number)
        arrivals = self.world.demand.arrivals(horizon_ms, self.world.requesters, self.seed)
        self._await(arrivals)
        if not isinstance(self.world.churn, Steady):
            for number in self.population.providers:
                self._await_change(number, self.world.churn.changes(number, self.seed))

    def submit(self, requester: int, spec: JobSpec) -> JobId:
        """Let the user of a requester submit a job now, or a gang; return the id of the first."""
        submission = submission_of(spec, self._ids)
        self.network.submit(self.network.nodes[requester], submission)
        jobs = submission.jobs if isinstance(submission, inputs.ArraySubmitted) else (submission,)
        return jobs[0].job_id

    def advance(self, until_ms: int) -> None:
        """Let everything happen up to a time, in milliseconds since the start."""
        self.engine.run(until_ms * TICKS_PER_MS)

    # --- nodes ----------------------------------------------------------------------------

    def _make(self, number: int) -> SimulatedNode | None:
        if not self.population.online[number]:
            return None
        return SimulatedNode(number, self.population.policy(number), self._core(number))

    def _core(self, number: int) -> AnyCore:
        draw = stream(self.seed, f"directory/{number}").getrandbits(62)
        signer = self.population.identities.signer(number)
        directory = SharedDirectory(self._records_for(number), draw)
        honest = Core(signer, self.population.policy(number), directory)
        deviates = self.population.adversaries.get(number)
        if deviates:
            return deviates.corrupt(honest)
        return self.world.defences.guard(honest) if number < self.world.requesters else honest

    def _records_for(self, number: int) -> SharedRecords:
        """Return the records that a node hears of: those of its captors alone, if it has any."""
        captors = self._eclipses.captors.get(number)
        return self._records.among(captors) if captors else self._records

    def _adversaries(self) -> dict[int, Adversaries]:
        """Choose who deviates, by the kinds in their order; nobody in two ways."""
        found: dict[int, Adversaries] = {}
        for place, kind in enumerate(self.world.adversaries):
            requesters = range(self.world.requesters)
            could = self.population.providers if kind.who == LENDERS else requesters
            count = round(len(could) * kind.share_percent / 100)
            left = [number for number in could if number not in found]
            chance = stream(self.seed, f"adversaries/{place}")
            chosen = chance.sample(left, min(count, len(left)))
            left = [each for each in self.population.providers if each not in {*found, *chosen}]
            helpers = chance.sample(left, min(kind.helpers(len(chosen)), len(left)))
            acting = kind.unite(Conspiracy(self._peers(chosen), self._peers(helpers)))
            found |= dict.fromkeys((*chosen, *helpers), acting)
            self._eclipses.add(kind.victims(requesters), chosen)
        return found

    def _peers(self, numbers: Iterable[int]) -> tuple[PeerId, ...]:
        return tuple(map(self.population.identities.peer_of, numbers))

    def _silent(self) -> frozenset[int]:
        """Choose who forwards no gossip."""
        providers = self.population.providers
        count = round(len(providers) * self.world.silent_percent / 100)
        return frozenset(stream(self.seed, "gossip/silent").sample(providers, count))

    def _meet(self, number: int) -> None:
        """Connect a requester with some nodes that lend."""
        node = self.network.node(number)
        assert node is not None
        count = min(self.gossip.connections, len(self.population.providers))
        chance = stream(self.seed, f"neighbours/{number}")
        others = chance.sample(self.population.providers, count)
        for peer in self._peers(self._eclipses.connections(number, others)):
            self.network.give(node, inputs.PeerConnected(peer))

    def _deliver(self, number: int, signed: Signed[Any], author: int) -> None:
        if self.population.online[number]:
            node = self.network.node(number)
            assert node is not None
            self.network.hear(node, signed, author)

    # --- demand ---------------------------------------------------------------------------

    def _await(self, arrivals: Iterator[Arrival]) -> None:
        arrival = next(arrivals, None)
        if arrival is not None:
            self.engine.at(arrival.at_ms * TICKS_PER_MS, self._submit, arrival, arrivals)

    def _submit(self, arrival: Arrival, arrivals: Iterator[Arrival]) -> None:
        self.submit(arrival.requester, arrival.spec)
        self._await(arrivals)

    # --- churn ----------------------------------------------------------------------------

    def _await_change(self, number: int, changes: Iterator[PresenceChange]) -> None:
        change = next(changes, None)
        if change is not None:
            ticks = change.after_ms * TICKS_PER_MS
            self.engine.after(ticks, self._change, number, change, changes)

    def _change(
        self, number: int, change: PresenceChange, changes: Iterator[PresenceChange]
    ) -> None:
        for changed in self.changed:
            changed(number, change.online)
        self.population.online[number] = change.online
        node = self.network.nodes.get(number)
        if change.online:
            self._gone_ms.pop(number, None)
        else:
            self._gone_ms[number] = self.network.now_ms
        if node is not None and change.online:
            self.network.come_back(node, self._core(number))
        elif node is not None:
            self.network.go(node)
        self._await_change(number, changes)
