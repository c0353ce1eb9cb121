"""One run: a small world made of one seed, its troubles, and its peace.

Spec: specs/faults.md#model. First everything goes wrong for a while; then the network heals, those
who can come back do, and all deadlines pass. The same seed gives the same run, byte for byte.
"""

import hashlib
import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final

from protocol.core import unpaid
from protocol.core.jobs import Ending
from protocol.machines import effects, inputs
from protocol.values.limits import NOTICE_MS, SHORT_MS, UNPAID_MS_MAX
from protocol.wire.job import QUICK, VICKREY
from protocol.wire.messages import Message
from tests.faults.mutants import Mutant, changed
from tests.faults.network import FaultyNetwork
from tests.faults.watch import Violation, Watch
from tests.simulated_network import START_MS, job_spec, provider_policy
from tests.simulated_node import Node

ACTS_MS: Final = 30_000
"""In this time nodes are killed, frozen, parted, and die."""
TROUBLE_MS: Final = 60_000
"""How long messages are lost and nodes crash after that, if jobs are still open."""
PEACE_MS: Final = 6 * 3_600_000
"""The longest time that a healed network may need for its last job."""
CRASHES_MAX: Final = 12
CRASHES_IN_HASTE: Final = 0.1
"""How often a node crashes between what a mutant does too early and its commit."""
GANGS: Final = 0.15
"""How many of the jobs are gangs of two or three."""
SWEEPS: Final = 0.25
"""How often a requester has some equal jobs, if jobs are short: they follow each other."""
REGIONS: Final = ("africa", "europe", "oceania", "")
NEAR_US, LIMIT_US, FAR_US = 7_000, 20_000, 83_000
"""A round trip within a cluster of nodes, what gangs want at most, and one between clusters."""
QUEUE_MS: Final = (0, 30_000, 300_000)
CHECKPOINTS_MS: Final = (0, 0, 5_000, 10_000)
"""How often checkpoints of a job are taken; 0: it has none."""
UNPAID_MS: Final = (UNPAID_MS_MAX, UNPAID_MS_MAX, UNPAID_MS_MAX, 2_000)
"""How much usage a requester may owe a provider: usually more than it can in so short a time."""
REPLAYS: Final = 40
DEAD_REQUESTERS_PERCENT: Final = 25
DEAD_PROVIDERS_PERCENT: Final = 12
REQUESTERS: Final = ("ann", "amy", "art")
PROVIDERS: Final = ("ben", "cleo", "dan", "eve")


@dataclass
class Run:
    """The outcome of one seed."""

    seed: int
    violations: list[Violation] = field(default_factory=list)
    jobs: int = 0
    """Jobs of requesters that survived."""
    done: int = 0
    """Of these, the jobs that have run to their end."""
    crashes: int = 0
    trace: tuple[str, ...] = ()
    digest: str = ""


class World:
    """A network of a few requesters and providers in which things go wrong."""

    def __init__(self, seed: int) -> None:
        dice = self.dice = random.Random(seed)
        self.network = FaultyNetwork(seed, job_ms=dice.choice([300, 3_000, 20_000, 60_000]))
        self.network.stop_ms = dice.choice([0, 0, 2_000, 15_000])
        self.network.rules.unpaid_ms_max = unpaid_ms_max(seed)
        self.crashes = 0
        self.watch = Watch(self.network)
        self._loss = dice.choice([0.0, 0.08, 0.08, 0.2])
        self._doubled = dice.choice([0.0, 0.05, 0.05, 0.2])
        self._crash_rate = dice.choice([0.0, 0.004, 0.004, 0.02])
        self._accident_rate = dice.choice([0.0, 0.0, 0.05])
        self._parted: set[tuple[str, str]] = set()
        self._begin(dice)

    def _begin(self, dice: random.Random) -> None:
        network = self.network
        self.providers = [
            network.add(
                name,
                provider_policy(
                    cpu=dice.randint(1, 5_000),
                    cpus=dice.choice([1, 1, 2]),
                    region=dice.choice(REGIONS),
                    audit_percent=100,
                ),
            )
            for name in PROVIDERS[: dice.randint(3, 4)]
        ]
        # A node may be both: some requesters serve others.
        self.requesters = [
            network.add(name, *([provider_policy(cpus=1)] if dice.random() < 0.2 else []))
            for name in REQUESTERS[: dice.randint(2, 3)]
        ]
        clusters = {node.name: dice.choice([0, 0, 1]) for node in network.nodes.values()}
        network.round_trip_us = lambda one, other: (
            NEAR_US if clusters[one] == clusters[other] else FAR_US
        )
        network.meet()
        network.fate = self._fate
        network.drop = lambda sender, receiver, message: (sender, receiver) in self._parted
        network.crashes = self._crashes
        network.crashes_in_haste = self._crashes_in_haste
        network.on_crash = self._expect
        network.accident = self._accident

    # Faults.

    def _fate(self, sender: Node, receiver: Node, message: Message | None) -> tuple[int, ...]:
        """Return when the copies of a message arrive; one in twenty is late."""
        dice = self.dice
        if dice.random() < self._loss:
            return ()
        delays = [_delay_ms(dice)]
        if message is not None and dice.random() < self._doubled:
            delays.append(_delay_ms(dice))
        return tuple(delays)

    def _crashes(self, node: Node) -> bool:
        unlucky = self.crashes < CRASHES_MAX and self.dice.random() < self._crash_rate
        self.crashes += unlucky
        return unlucky

    def _crashes_in_haste(self, node: Node) -> bool:
        unlucky = self._crash_rate > 0 and self.dice.random() < CRASHES_IN_HASTE
        self.crashes += unlucky
        return unlucky

    def _accident(self, effect: effects.Effect) -> Any:
        """Return the bad end of a piece of work, now and then."""
        if not self._accident_rate or self.dice.random() >= self._accident_rate:
            return None
        match effect:
            case effects.Prepare(lease_id):
                return inputs.PrepareFailed(lease_id, "no image")
            case effects.FetchCheckpoint(_, lease_id, _, _, checkpoint):
                return inputs.CheckpointLost(lease_id, checkpoint.sequence)
            case effects.FetchOutputs(_, lease_id):
                return inputs.OutputsLost(lease_id, "the outputs are damaged")
        return None

    def _expect(self, node: Node) -> None:
        """Let a crashed node come back, unless it died; its clock may have been set meanwhile."""
        if node.peer_id in self.network.dead:
            return
        away_ms = self.dice.choice([1, 700, 5_000, 20_000, 60_000])
        behind_ms = self.dice.choice([0, 0, 0, 0, 5_000, 50_000, -50_000])
        self.network.after(away_ms, lambda: self._return(node, behind_ms))

    def _return(self, node: Node, behind_ms: int) -> None:
        if not node.online and node.peer_id not in self.network.dead:
            self.network.restart(node, behind_ms)

    def _die(self, node: Node) -> None:
        self.network.die(node, machine=self.dice.random() < 0.5)

    def _fell(self, node: Node) -> None:
        """Stop a node as its owner would, kill it, or take its power away."""
        if node.online:
            how = self.dice.choice(["stopped", "killed", "without power"])
            if how == "stopped":
                self.network.stop(node, then=lambda: self._expect(node))
            else:
                self.network.crash(node, machine=how == "without power")
                self._expect(node)

    def _part(self) -> None:
        """Cut the way between two nodes for a while, in one direction or in both."""
        one, other = self.dice.sample([node.name for node in self.network.nodes.values()], 2)
        self._parted |= {(one, other)} | ({(other, one)} if self.dice.random() < 0.6 else set())
        self.network.after(self.dice.randint(1_000, 50_000), self._parted.clear)

    def _replay(self) -> None:
        """Let old messages arrive once more: nobody may act on them again."""
        network, dice = self.network, self.dice
        sent = list(network.history.sent)
        for fact in dice.sample(sent, min(len(sent), REPLAYS)):
            network.replay(fact, dice.randint(5, 4_000))

    # The run.

    def trouble(self) -> None:
        """Submit jobs while everything goes wrong."""
        network, dice = self.network, self.dice
        for node in self.requesters:
            for _ in range(dice.choice([1, 1, 2, 3])):
                network.after(dice.randint(0, 4_000), lambda node=node: self._submit(node))
            if network.job_ms <= SHORT_MS and dice.random() < SWEEPS:
                network.after(dice.randint(0, 4_000), lambda node=node: self._submit_sweep(node))
        for nodes, percent in (
            (self.requesters, DEAD_REQUESTERS_PERCENT),
            (self.providers, DEAD_PROVIDERS_PERCENT),
        ):
            for node in nodes:
                if dice.randrange(100) < percent:
                    network.after(dice.randint(0, ACTS_MS), lambda node=node: self._die(node))
        everybody = list(network.nodes.values())
        for act, chance in (
            (lambda: self._fell(dice.choice(everybody)), 0.5),
            (lambda: network.freeze(dice.choice(everybody), dice.randint(1_000, 60_000)), 0.3),
            (self._part, 0.4),
            (self._replay, 0.4),
        ):
            if dice.random() < chance:
                network.after(dice.randint(0, ACTS_MS), act)
        network.run(ACTS_MS + 1_000)
        network.run_until(self._all_ended, TROUBLE_MS)

    def _submit(self, node: Node) -> None:
        if not node.online:
            return
        dice = self.dice
        spec = job_spec(
            cpus=dice.choice([1, 1, 1, 2]), profile=dice.choice([QUICK, VICKREY]),
            queue_ms=dice.choice(QUEUE_MS), checkpoint_ms=dice.choice(CHECKPOINTS_MS),
        )  # fmt: skip
        if dice.random() < GANGS:
            terms = replace(
                spec.terms, nodes=dice.choice([2, 3]), spread_regions=dice.random() < 0.3,
                max_round_trip_us=dice.choice([0, LIMIT_US]),
            )  # fmt: skip
            gang = replace(spec, terms=terms)
            job_id = self.network.submit_gang(node, gang)[0]
        else:
            job_id = self.network.submit(node, spec)
        if dice.randrange(100) < 15:
            self.network.after(dice.randint(0, 20_000), lambda: self.network.cancel(node, job_id))

    def _submit_sweep(self, node: Node) -> None:
        if node.online:
            spec = job_spec(profile=self.dice.choice([QUICK, VICKREY]), queue_ms=max(QUEUE_MS))
            for _ in range(self.dice.randint(3, 6)):
                self.network.submit(node, spec)

    def peace(self) -> None:
        """Heal the network: now every job must end, and nothing may be left."""
        network = self.network
        self._loss = self._doubled = self._crash_rate = self._accident_rate = 0.0
        self._parted.clear()
        network.thaw()
        network.run(61_000 + NOTICE_MS)  # The last of those that left or crashed come back.
        for node in network.nodes.values():
            assert node.online != (node.peer_id in network.dead)
        network.run_until(self._all_ended, PEACE_MS)
        network.pass_all_deadlines()

    def _all_ended(self) -> bool:
        """Return whether every job has ended whose requester is not dead."""
        network = self.network
        return not any(
            node.peer_id not in network.dead and network.job(node, job_id).ending is Ending.OPEN
            for node, job_id in network.jobs
        )


def run(seed: int, mutant: Mutant | None = None, *, trace: bool = False) -> Run:
    """Run one seed to its end and check it; with a mutant, one rule of the protocol is broken.

    The trace is the run as text, and its digest is over all that happened.
    """
    broken: AbstractContextManager[Any] = mutant.patch() if mutant else nullcontext()
    with broken, changed(unpaid, "UNPAID_MS_MAX", unpaid_ms_max(seed)):
        world = World(seed)
        if mutant:
            mutant.drive(world.network)
        try:
            world.trouble()
            world.peace()
            world.watch.check_end()
        except Exception as error:  # noqa: BLE001 (whatever the core raises is a finding)
            world.watch.note("no exception", [f"{type(error).__name__}: {error}"])
    return _outcome(seed, world, trace=trace)


def unpaid_ms_max(seed: int) -> int:
    """Return how much a requester may owe each provider in the world of a seed."""
    return random.Random(f"unpaid {seed}").choice(UNPAID_MS)


def _outcome(seed: int, world: World, *, trace: bool) -> Run:
    network, history = world.network, world.network.history
    survived = [(node, job_id) for node, job_id in network.jobs if node.online]
    endings = [node.job(job_id).ending for node, job_id in survived]
    outcome = Run(
        seed, world.watch.violations, len(endings), endings.count(Ending.DONE), world.crashes
    )
    if trace:
        outcome.trace = tuple(history.lines(network.name_of, START_MS))
        outcome.digest = hashlib.sha256(repr(history.facts).encode()).hexdigest()
    return outcome


def _delay_ms(dice: random.Random) -> int:
    return dice.randint(5, 300) if dice.random() < 0.95 else dice.randint(300, 4_000)
