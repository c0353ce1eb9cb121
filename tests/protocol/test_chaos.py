"""Chaos from a seed: a bad network, nodes that crash anywhere, and what must hold all the same.

Spec: specs/core.md#recovery. First everything goes wrong for a while, and safety is checked at each
step; then the network heals, and everything must come to an end. A failing seed names itself.
"""

import random
from collections import defaultdict
from dataclasses import replace

import pytest

from protocol.core.jobs import Ending
from protocol.machines.effects import Effect, Launch, Send, Settle
from protocol.machines.events import Awarded, Done, Failed, Retrying
from protocol.machines.provider import lease
from protocol.values.ids import JobId, LeaseId
from protocol.values.limits import CLOCK_SKEW_MS, RETAIN_MS
from protocol.wire.messages import (
    BidCommit,
    BidReveal,
    CapabilityRecord,
    CommitSet,
    Receipt,
    Voucher,
)
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node

SEEDS = 100
FORGETTABLE = BidCommit | BidReveal | CommitSet | CapabilityRecord
"""What a crash may lose: nobody is bound by it yet. All else that is repeated is in the outbox."""
FOUND = (1_003_339, 1_001_747, 1_000_964)
"""A clock that was wrong when a container started and right later; a bill for no usage at all;
a requester that was away while its provider was, and had given up a job that waits, paused."""
TROUBLE_MS = 60_000
WAIT_MS = (1 + job_spec().terms.retries) * (job_spec().terms.queue_ms + 600_000)
"""In a slow network a job may wait for all its time at each attempt."""
CRASHES_MAX = 6
CANCELLED_PERCENT = 15


class Chaos:
    """A network in which things go wrong, and those who watch it."""

    def __init__(self, seed: int) -> None:
        dice = self.dice = random.Random(seed)
        delay_ms = (5, dice.choice([20, 200, 800, 2_000]))
        loss, doubled = dice.choice([0.0, 0.1, 0.2]), dice.choice([0.0, 0.1])
        job_ms = dice.choice([500, 5_000, 40_000])
        self.network = SimulatedNetwork(
            seed, delay_ms=delay_ms, loss=loss, doubled=doubled, job_ms=job_ms
        )
        self.network.stop_ms = dice.choice([0, 0, 2_000, 15_000])
        self.providers = [
            self.network.add(
                name, provider_policy(cpu=dice.randint(1, 5_000), cpus=dice.randint(1, 2))
            )
            for name in ("ben", "cleo", "dan")
        ]
        # A node may be both: amy asks others and serves others.
        self.requesters = [
            self.network.add("ann"),
            self.network.add("amy", provider_policy(cpus=1)),
        ]
        self.jobs: list[tuple[Node, JobId]] = []
        self.crashes = 0
        self.crash_percent = dice.choice([0, 1, 4])
        self.network.meet()
        self.network.crash_point = self.watch
        self.parted: set[tuple[str, str]] = set()
        self.network.drop = lambda sender, receiver, message: (sender, receiver) in self.parted

    def trouble(self) -> None:
        """Submit jobs while nodes crash and come back."""
        network, dice = self.network, self.dice
        for _ in range(3):
            node = dice.choice(self.requesters)
            if node.online:
                spec = job_spec(cpus=dice.randint(1, 2), profile=dice.randint(1, 2))
                job_id = network.submit(node, spec)
                self.jobs.append((node, job_id))
                if dice.randrange(100) < CANCELLED_PERCENT:
                    at_ms = dice.randint(0, 10_000)
                    network.after(
                        at_ms, lambda node=node, job_id=job_id: network.cancel(node, job_id)
                    )
            network.run(dice.randint(0, 4_000))
        if self.crash_percent:
            for _ in range(2):
                node = dice.choice(list(network.nodes.values()))
                network.after(dice.randint(0, 20_000), lambda node=node: self.fell(node))
        if dice.random() < 0.3:
            network.after(dice.randint(0, 10_000), self.part)
        network.run_until(lambda: all(network.ended(*job) for job in self.jobs), TROUBLE_MS)

    def peace(self) -> None:
        """Heal everything: now all jobs must end, and nothing may be left."""
        network = self.network
        network.loss = network.doubled = 0.0
        self.parted.clear()
        self.crash_percent = 0
        network.run(61_000)  # The last of the crashed come back.
        assert all(node.online for node in network.nodes.values())
        ended = network.run_until(lambda: all(network.ended(*job) for job in self.jobs), WAIT_MS)
        assert ended, "a job goes on for ever"
        network.run(120_000)
        network.sleep(RETAIN_MS + CLOCK_SKEW_MS)
        network.run(5_000)

    def fell(self, node: Node) -> None:
        if node.online and self.crash_percent:
            how = self.dice.choice(["stopped", "killed", "killed", "without power"])
            if how == "stopped":
                self.network.stop(node)
            else:
                self.network.crash(node, machine=how == "without power")
            self.expect(node)

    def part(self) -> None:
        """Cut the way between two nodes for a while, in one direction or in both."""
        one, other = self.dice.sample([node.name for node in self.network.nodes.values()], 2)
        self.parted |= {(one, other)} | ({(other, one)} if self.dice.random() < 0.7 else set())
        self.network.after(self.dice.randint(1_000, 50_000), self.parted.clear)

    def expect(self, node: Node) -> None:
        away_ms = self.dice.choice([1, 700, 5_000, 20_000, 60_000])
        # A requester whose clock was set back disputes bills, rightly: no peace follows of that.
        behind_ms = self.dice.choice([0, 0, 0, 5_000, 50_000]) if node in self.providers else 0
        self.network.after(away_ms, lambda: node.online or self.network.restart(node, behind_ms))

    def watch(self, node: Node, todo: list[Effect]) -> int | None:
        """Check what must always hold, and let the node crash between writing and speaking."""
        check_capacity(node)
        for effect in todo:
            if isinstance(effect, Launch):
                assert ("provider-lease", effect.lease_id) in node.disk.saved, (
                    "launched before written"
                )
            if isinstance(effect, Send) and effect.until_ms:
                said = self.network.identities.open(effect.envelope, node.peer_id).message
                assert effect.in_outbox != isinstance(said, FORGETTABLE), said
        unlucky = todo and self.dice.randrange(100) < self.crash_percent
        if not unlucky or self.crashes == CRASHES_MAX:
            return None
        self.crashes += 1
        self.expect(node)
        return self.dice.randint(0, len(todo))


def check_capacity(node: Node) -> None:
    held = [lease.reserved(state) for state in node.core.provider.leases.values()]
    cpus = sum(reservation.resources.cpus for reservation in held if reservation)
    assert cpus <= node.policy.capacity.cpus, "capacity is promised twice"


def check_jobs(chaos: Chaos) -> None:
    for node, job_id in chaos.jobs:
        happened = node.disk.events[job_id]
        ends = [event for event in happened if isinstance(event, Done | Failed)]
        assert len(ends) == 1, "a job ends once"
        assert ends[0] is happened[-1]
        match node.job(job_id).ending, ends[0]:
            case Ending.DONE, Done() as done:
                assert not done.dispute
            case Ending.FAILED | Ending.CANCELLED, Failed() as failed:
                assert failed.why
            case ending:
                raise AssertionError(ending)


def check_nothing_is_left(network: SimulatedNetwork) -> None:
    for node in network.nodes.values():
        core = node.core
        left = [
            core.requester.scheduler.auctions.states, core.requester.leases.states,
            core.requester.jobs, core.provider.leases, core.provider.biddings, node.containers,
            node.disk.outbox, node.in_memory,
        ]  # fmt: skip
        assert not any(left), f"{node.name} holds something for ever"
        assert {table for table, _ in node.disk.saved} <= {"job"}
        assert core.provider.left(node.policy.capacity) == node.policy.capacity


def check_money(network: SimulatedNetwork) -> None:
    """What both signed is the same, and what was promised by voucher is what was billed."""
    paid: dict[LeaseId, Settle] = {}
    earned: dict[LeaseId, Settle] = {}
    for node in network.nodes.values():
        for lease_id, receipt in node.disk.receipts.items():
            (earned if receipt.provider == node.peer_id else paid)[lease_id] = receipt
    settled = {
        lease_id: replace(receipt, voucher=b"")  # Only who is paid keeps the voucher.
        for lease_id, receipt in earned.items()
        if receipt.countersign
    }
    assert settled == paid, "the two sides disagree"
    promised = vouchers(network)
    for lease_id, receipt in paid.items():
        assert promised.get(lease_id, 0) == receipt.amount  # Nothing used, nothing promised.


def check_nobody_is_accused(network: SimulatedNetwork) -> None:
    """All nodes are honest, whatever the network does to their messages."""
    assert not any(node.disk.proofs for node in network.nodes.values())


def check_costs(chaos: Chaos) -> None:
    """What a user was told that a job cost is what was promised for its leases."""
    promised = vouchers(chaos.network)
    for node, job_id in chaos.jobs:
        due = 0
        for event in node.disk.events[job_id]:
            if isinstance(event, Awarded):
                due = promised.get(event.lease_id, 0)
            elif isinstance(event, Retrying | Failed | Done):
                assert event.amount == due
                due = 0


def vouchers(network: SimulatedNetwork) -> dict[LeaseId, int]:
    """Return the highest amount that was promised for each lease; it never went down."""
    found: dict[LeaseId, list[tuple[int, int]]] = defaultdict(list)
    for signed in network.identities.opened.values():
        if isinstance(signed.message, Voucher):
            voucher = signed.message
            found[voucher.lease_id].append((voucher.sequence, voucher.amount))
        elif isinstance(signed.message, Receipt):
            assert signed.signer == signed.message.payer
    for steps in found.values():
        steps.sort()
        assert [amount for _, amount in steps] == sorted(amount for _, amount in steps)
        assert len({sequence for sequence, _ in steps}) == len(steps), "two vouchers, one number"
    return {lease_id: steps[-1][1] for lease_id, steps in found.items()}


@pytest.mark.parametrize("seed", [*range(SEEDS), *FOUND])
def test_chaos(seed: int) -> None:
    chaos = Chaos(seed)
    chaos.trouble()
    chaos.peace()
    check_jobs(chaos)
    check_nothing_is_left(chaos.network)
    check_money(chaos.network)
    check_nobody_is_accused(chaos.network)
    check_costs(chaos)
