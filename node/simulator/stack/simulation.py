"""One run of a stack: the nodes of a world as whole nodes, in one process and in virtual time.

It has what a Recorder needs of node.simulator.simulation.Simulation. Nodes start WARM_UP_MS before
the start and get to know each other; then the demand comes, and nodes go and come back.
Spec: specs/simulation.md#stack.
"""

import logging
import random
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import trio

from node.simulator.engine import TICKS_PER_MS
from node.simulator.gossip import GossipTraffic
from node.simulator.identities import Keys
from node.simulator.network import SUBMISSION
from node.simulator.paths import Paths
from node.simulator.population import populate
from node.simulator.seeds import stream
from node.simulator.simulation import World, acquaintances, disturb
from node.simulator.stack.clock import VirtualClock
from node.simulator.stack.gossip import StackGossip
from node.simulator.stack.network import SharedNetwork
from node.simulator.stack.node import Machine, StackNode
from node.simulator.stack.trio_engine import TrioEngine
from node.simulator.world.demand import Arrival, submission_of
from protocol.machines import inputs
from protocol.machines.effects import Report, Settle
from protocol.values.errors import StorageFull, Unavailable

WARM_UP_MS: Final = 10_000
FILES_PER_NODE: Final = 20
"""A node's database has four threads and three connections."""
SILENCE: Final = logging.NullHandler()
"""Without any handler Python would print the warnings of all nodes."""
Progress = Callable[[int, int], None]


class StackSimulation:
    """A world of whole nodes."""

    def __init__(self, world: World, seed: int) -> None:
        """Make the world. All keys are real, whatever it says."""
        self.world = world
        self.seed = seed
        identities = Keys(seed)
        links = world.latency.links(world.nodes, seed)
        paths = Paths(links, world.bandwidth.rates(world.nodes, seed))
        sizes = world.nodes, world.requesters
        self.population = populate(identities, links, world.supply, sizes, seed)
        self.population.pricing = world.pricing
        self.clock = VirtualClock(-WARM_UP_MS * TICKS_PER_MS)
        self.engine = TrioEngine(self.clock)
        self.network = SharedNetwork(self.engine, paths, identities)
        self.gossip = StackGossip(self.engine, self.population, self._deliver, world.degree, seed)
        disturb(self.gossip, world, self.population, seed)
        self.network.gossip = self.gossip
        self.changed: list[Callable[[int, bool], None]] = []
        """Are told of each node that goes or comes back, before it does."""
        self.repriced: list[Callable[[int], None]] = []
        """Nobody is: prices do not change."""
        self._ids = stream(seed, "jobs")
        self._is_over = False

    def run(self, horizon_ms: int, steps: int, progress: Progress) -> None:
        """Let everything happen up to the horizon, and tell the progress in so many steps.

        KeyboardInterrupt after Ctrl-C; Unavailable if this process may not open so many files,
        StorageFull if the disk has no room for what nodes store.
        """
        _allow_files(self.world.nodes * FILES_PER_NODE)
        logging.getLogger("node").addHandler(SILENCE)
        ended: BaseException | None = None
        with tempfile.TemporaryDirectory(prefix="mutirao-stack-") as folder:
            self._make_nodes(Path(folder))
            state = random.getstate()
            random.seed(f"{self.seed}/retries")  # A real node's retries draw from there.
            try:
                trio.run(self._run, horizon_ms, steps, progress, clock=self.clock)
            except* KeyboardInterrupt:
                ended = KeyboardInterrupt()
            except* StorageFull:
                ended = StorageFull(f"{folder}: there is no room for what the nodes store")
            finally:
                random.setstate(state)
                self._end()
        if ended is not None:
            raise ended

    # --- the run --------------------------------------------------------------------------

    async def _run(self, horizon_ms: int, steps: int, progress: Progress) -> None:
        nodes = self.network.nodes
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.engine.pump)
            with self.clock.held():  # All begin at once: who subscribes late misses records.
                for node in nodes.values():
                    await nursery.start(node.run)
            for number in range(self.world.requesters):
                self._meet(nodes[number], nursery)
            await self._sleep_until(0)
            self._forget_warm_up()
            nursery.start_soon(self._demand, horizon_ms)
            for number in self.population.providers:
                nursery.start_soon(self._come_and_go, nodes[number], nursery)
            for step in range(1, steps + 1):
                until_ms = horizon_ms * step // steps
                await self._sleep_until(until_ms)
                self.engine.catch_up()
                progress(until_ms, horizon_ms)
            self._end()
            nursery.cancel_scope.cancel()

    def _meet(self, node: StackNode, nursery: trio.Nursery) -> None:
        """Connect a requester with the nodes with which it is connected in the other tiers."""
        count, peer_of = self.gossip.connections, self.population.identities.peer_of
        for number in acquaintances(self.population, node.number, count, self.seed):
            nursery.start_soon(node.reach, peer_of(number))

    async def _demand(self, horizon_ms: int) -> None:
        arrivals = self.world.demand.arrivals(horizon_ms, self.world.requesters, self.seed)
        for arrival in arrivals:
            await self._sleep_until(arrival.at_ms)
            await self._submit(arrival)

    async def _submit(self, arrival: Arrival) -> None:
        submission = submission_of(arrival.spec, self._ids)
        jobs = submission.jobs if isinstance(submission, inputs.ArraySubmitted) else (submission,)
        node = self.network.nodes[arrival.requester]
        self.engine.catch_up()
        self.network.note(SUBMISSION, arrival.requester, -1)
        for job in jobs:
            for submitted in self.network.submitted:
                submitted(node, job)
        await node.submit({job.job_id: job.spec for job in jobs})

    async def _come_and_go(self, node: StackNode, nursery: trio.Nursery) -> None:
        at_ms = 0
        for change in self.world.churn.changes(node.number, self.seed):
            at_ms += change.after_ms
            await self._sleep_until(at_ms)
            self.engine.catch_up()
            for changed in self.changed:
                changed(node.number, change.online)
            self.population.online[node.number] = change.online
            if change.online:
                await nursery.start(node.run)
            else:
                await node.go()

    def _end(self) -> None:
        """Tell nothing more of what happens."""
        self._is_over = True
        self.network.close_tick()

    async def _sleep_until(self, at_ms: int) -> None:
        await trio.sleep_until(at_ms / 1000)

    # --- what is told ---------------------------------------------------------------------

    def _make_nodes(self, folder: Path) -> None:
        for number in range(self.world.nodes):
            own = folder / str(number)
            own.mkdir(mode=0o700)
            signer, policy = self.network.identities.signer(number), self.population.policy(number)
            machine = Machine(own, signer, policy, self.clock, self.network)
            self.network.nodes[number] = StackNode(number, machine, self._witness)

    def _deliver(self, number: int, announcement: Any, author: int) -> None:
        topic, data = announcement
        network = self.network.networks.get(self.population.identities.peer_of(number))
        if network is not None and number != author:
            network.hear(topic, self.population.identities.peer_of(author), data)

    def _witness(self, node: StackNode, effect: object) -> None:
        if self._is_over:
            return
        self.engine.catch_up()
        match effect:
            case Report():
                for witness in self.network.witnesses:
                    witness(node, effect.job_id, effect.event)
            case Settle() if effect.countersign and effect.provider == node.peer_id:
                for settled in self.network.settled:
                    settled(effect)

    def _forget_warm_up(self) -> None:
        self.network.sent.clear()
        self.gossip.traffic = GossipTraffic()


def _allow_files(count: int) -> None:
    """Let this process have so many files open; Unavailable if it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise Unavailable(f"so many nodes need {count:,} open files, and {hard:,} are allowed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
