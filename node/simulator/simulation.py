"""One run: a world made from models and a seed, and what happens in it.

Spec: specs/simulation.md#runs.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final

from node.simulator.directory import SharedDirectory, SharedRecords
from node.simulator.eclipses import Eclipses
from node.simulator.engine import TICKS_PER_MS
from node.simulator.gossip import MILLION, FlowGossip, MessageGossip, TopicGossip
from node.simulator.identities import Keys, Numbers
from node.simulator.lookups import AddressLookups
from node.simulator.network import START_MS, SimulatedNetwork
from node.simulator.node import Disk, SimulatedNode
from node.simulator.paths import Paths
from node.simulator.population import Population, populate
from node.simulator.seeds import stream
from node.simulator.world.adversaries import LENDERS, Adversaries, AnyCore, Conspiracy
from node.simulator.world.bandwidth import Bandwidth, EqualLines
from node.simulator.world.churn import Churn, PresenceChange, Steady
from node.simulator.world.defences import Defences, NoDefence
from node.simulator.world.demand import Arrival, JobDemand, Poisson, submission_of
from node.simulator.world.directory import AddressModel, SharedAddresses
from node.simulator.world.latency import Latency, Regions
from node.simulator.world.pricing import ChangingPrices, DrawnFloors, PriceChange, Pricing
from node.simulator.world.supply import Mix, Supply
from protocol.core.core import Core
from protocol.machines import inputs
from protocol.values.ids import JobId, PeerId
from protocol.wire.envelope import Signed
from protocol.wire.job import JobSpec

FLOW, MESSAGE, STACK = "flow", "message", "stack"
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
    directory: AddressModel = field(default_factory=SharedAddresses)
    defences: Defences = field(default_factory=NoDefence)
    crypto: bool = False
    loss_percent: float = 0.0
    """How much of the gossip is lost; only in the tier `message`."""
    silent_percent: float = 0.0
    """How many of the nodes that lend forward nothing; only in the tier `message`."""
    invalid_percent: float = 0.0
    """How many of them forward invalid copies; only in the tier `message`."""
    scoring: bool = True
    """Whether a neighbour in a mesh that is of no use loses its place, in the tier `message`."""
    adversaries: tuple[Adversaries, ...] = ()
    processing_us: int = 0
    """How long a node is busy with each message, and with each result of what it began."""


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
        self.network.processing = world.processing_us * TICKS_PER_MS // 1000
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
            disturb(self.gossip, world, self.population, seed)
        self.gossip.captors = self._eclipses.captors
        self.network.gossip = self.gossip
        self._ids = stream(seed, "jobs")
        self.changed: list[Callable[[int, bool], None]] = []
        """Are told of each node that goes or comes back, before it does."""
        self._serve_dht()
        self.repriced: list[Callable[[int], None]] = []
        """Are told of each node whose prices have changed."""

    def run(self, horizon_ms: int) -> None:
        """Let the demand come and everything happen, up to the horizon."""
        self.start(horizon_ms)
        self.advance(horizon_ms)

    def start(self, horizon_ms: int) -> None:
        """Make the requesters, and schedule the demand and the churn."""
        if isinstance(self.world.pricing, ChangingPrices):
            for number in self.population.providers:
                self._await_prices(number, self.world.pricing.changes(number))
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

    def _serve_dht(self) -> None:
        """Let nodes look each other up, if the world is such."""
        rules, network = self.world.directory.rules(), self.network
        if rules is not None:
            online, delay = self.population.online, network.links.delay
            network.lookups = AddressLookups(self.engine, delay, online, rules, self.seed)
            self.changed.append(network.lookups.change)

    # --- nodes ----------------------------------------------------------------------------

    def _make(self, number: int) -> SimulatedNode | None:
        if not self.population.online[number]:
            return None
        disk = Disk(images=set(self.population.images(number)))
        return SimulatedNode(number, self.population.policy(number), self._core(number), disk)

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

    def _meet(self, number: int) -> None:
        """Connect a requester with some nodes that lend."""
        node = self.network.node(number)
        assert node is not None
        others = acquaintances(self.population, number, self.gossip.connections, self.seed)
        for peer in self._peers(self._eclipses.connections(number, others)):
            self.network.give(node, inputs.PeerConnected(peer))

    def _deliver(self, number: int, signed: Signed[Any], author: int) -> None:
        if self.population.online[number]:
            node = self.network.node(number)
            assert node is not None
            self.network.process(node, self.network.hear, node, signed, author)

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

    # --- prices ---------------------------------------------------------------------------

    def _await_prices(self, number: int, changes: Iterator[PriceChange]) -> None:
        """Apply the changes of a node's prices that are due, and wait for the next."""
        for change in changes:
            if change.after_ms:
                ticks = change.after_ms * TICKS_PER_MS
                self.engine.after(ticks, self._reprice_and_wait, number, change, changes)
                return
            self._reprice(number, change)

    def _reprice_and_wait(
        self, number: int, change: PriceChange, changes: Iterator[PriceChange]
    ) -> None:
        self._reprice(number, change)
        self._await_prices(number, changes)

    def _reprice(self, number: int, change: PriceChange) -> None:
        population = self.population
        population.price_percent[number] = change.list_percent
        population.floors[number] = change.floor_percent
        self._records.forget(number)
        for repriced in self.repriced:
            repriced(number)
        node = self.network.nodes.get(number)
        if node is not None:
            node.policy = population.policy(number)
            self.network.give(node, inputs.PolicyChanged(node.policy))


def acquaintances(population: Population, number: int, count: int, seed: int) -> list[int]:
    """Return with which nodes that lend, at most so many, a requester is connected at the start."""
    providers = population.providers
    return stream(seed, f"neighbours/{number}").sample(providers, min(count, len(providers)))


def disturb(gossip: MessageGossip, world: World, population: Population, seed: int) -> None:
    """Let gossip be lost, and some of those that lend forward none, or invalid copies."""
    gossip.loss_ppm = round(world.loss_percent * MILLION / 100)
    gossip.scoring = world.scoring
    gossip.silent = _some(population.providers, world.silent_percent, seed, "gossip/silent")
    left = [number for number in population.providers if number not in gossip.silent]
    share = world.invalid_percent * len(population.providers) / max(1, len(left))
    gossip.forging = _some(left, min(share, 100), seed, "gossip/invalid")


def _some(numbers: Sequence[int], percent: float, seed: int, why: str) -> frozenset[int]:
    count = round(len(numbers) * percent / 100)
    return frozenset(stream(seed, why).sample(numbers, count))
