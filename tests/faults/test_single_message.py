"""Exactly one message goes wrong: each message of a run, in each way. The jobs end the same.

Spec: specs/faults.md#one-message.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import pytest

from protocol.core.jobs import Ending
from protocol.wire.job import QUICK, VICKREY
from protocol.wire.messages import CapabilityRecord, Message
from tests.faults.invariants import books
from tests.faults.network import FaultyNetwork
from tests.faults.watch import Watch
from tests.simulated_network import job_spec, provider_policy
from tests.simulated_node import Node

USUAL, LATE = (5,), (4_000,)
FAULTS = {"lost": (), "repeated": (5, 40), "repeated late": (5, 4_000), "late": LATE}
"""What becomes of the first transmission of one message: when its copies arrive."""
FOR_EVER = "lost for ever"
"""Every transmission of one message is lost."""
PROVIDERS = (("ben", 1_000), ("cleo", 2_000), ("dan", 3_000), ("eve", 4_000))
PROVIDERS_OF = {"array": 2, "gang": 4, "sweep": 2}
Name = tuple[str, str, str, int]
"""Sender, receiver, type, and the number among the messages of this type between the two."""


@dataclass
class OneFault:
    """The fate of messages: all are on time but one."""

    target: Name | None = None
    fault: str = ""
    met: dict[tuple[str, str, str], list[Message]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def __call__(self, sender: Node, receiver: Node, message: Message | None) -> tuple[int, ...]:
        if message is None or isinstance(message, CapabilityRecord):
            return USUAL
        kind = sender.name, receiver.name, type(message).__name__
        is_first = message not in self.met[kind]
        if is_first:
            self.met[kind].append(message)
        if (*kind, self.met[kind].index(message)) != self.target:
            return USUAL
        if self.fault == FOR_EVER:
            return ()
        return FAULTS[self.fault] if is_first else USUAL

    @property
    def names(self) -> list[Name]:
        """The names of all messages that were sent."""
        return [(*kind, number) for kind, known in self.met.items() for number in range(len(known))]


def run(fate: OneFault, scenario: str) -> tuple[set[Ending], Watch]:
    """Run a scenario; return how its jobs ended, and what was violated."""
    network = FaultyNetwork(job_ms=1_000 if scenario == "sweep" else 12_000)
    saves = scenario == "stopped"
    for name, price in PROVIDERS[: PROVIDERS_OF.get(scenario, 3)]:
        network.add(name, provider_policy(cpu=price, cpus=1, audit_percent=100))
    node = network.add("ann")
    network.meet()
    network.fate, watch = fate, Watch(network)
    profile = QUICK if scenario == "quick" else VICKREY
    if scenario == "gang":
        network.submit_gang(node, job_spec(nodes=3))
    if scenario == "near":  # ben is far from all others, so it measures, and then waits.
        network.round_trip_us = lambda *names: 83_000 if "ben" in names else 7_000
        network.submit_gang(node, job_spec(nodes=2, max_round_trip_us=20_000))
    for _ in range({"array": 3, "gang": 0, "near": 0, "sweep": 6}.get(scenario, 1)):
        network.submit(node, job_spec(profile=profile, checkpoint_ms=saves and 5_000))
    if scenario == "cancelled":
        network.run(8_000)
        network.cancel(node, network.jobs[0][1])
    if saves:  # The owner of its provider stops it, and its job continues elsewhere.
        network.run(9_000)
        providers = [other for other in network.nodes.values() if other is not node]
        stopped = next((each for each in providers if each.containers), providers[0])
        network.stop(stopped, then=lambda: network.restart(stopped))
    jobs = [job_id for _, job_id in network.jobs]
    network.run_until(
        lambda: all(network.job(node, job_id).ending is not Ending.OPEN for job_id in jobs),
        3_600_000,
    )
    network.pass_all_deadlines()
    watch.check_end()
    return {network.job(node, job_id).ending for job_id in jobs}, watch


def names_of(scenario: str) -> list[Name]:
    fate = OneFault()
    run(fate, scenario)
    return fate.names


SCENARIOS: dict[str, Ending] = {
    "sealed": Ending.DONE, "quick": Ending.DONE, "cancelled": Ending.CANCELLED,
    "array": Ending.DONE, "sweep": Ending.DONE, "gang": Ending.DONE, "near": Ending.DONE,
    "stopped": Ending.DONE,
}  # fmt: skip
"""How the jobs of each scenario end: one job; with `array` three for two slots; with `sweep` six
short ones for two slots; with `gang` three members, for which four nodes have a slot each; with
`near` two members, for whom two of three nodes are near enough to each other."""


@pytest.mark.parametrize("fault", [*FAULTS, FOR_EVER])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_any_one_message_may_go_wrong(scenario: str, fault: str) -> None:
    names = names_of(scenario)
    assert len(names) >= 20
    failed = {}
    for name in names:
        endings, watch = run(OneFault(name, fault), scenario)
        # A receipt that never arrives cannot be in the provider's books.
        allowed = {books.NAME} if fault == FOR_EVER else set()
        broken = [each for each in watch.violations if each.invariant not in allowed]
        if endings != {SCENARIOS[scenario]} and not _has_finished(scenario, fault, endings):
            failed[name] = endings, broken
        if broken:
            failed[name] = endings, broken
    assert failed == {}


def _has_finished(scenario: str, fault: str, endings: set[Ending]) -> bool:
    """Return whether a gang failed because a member was lost for good after another had ended."""
    return (
        scenario in {"gang", "near"}
        and fault == FOR_EVER
        and endings == {Ending.DONE, Ending.FAILED}
    )


def test_the_run_holds_every_message_of_a_lease() -> None:
    kinds = {kind for scenario in SCENARIOS for _, _, kind, _ in names_of(scenario)}
    assert kinds >= {
        "Call", "BidCommit", "CommitSet", "SetCheck", "BidReveal", "Outcome", "Award",
        "AwardAccept", "LeaseConfirm", "LeaseActive", "Deploy", "Ready", "Start", "Started",
        "Heartbeat", "Voucher", "Completed", "Receipt", "LeaseRelease", "Released",
        "PreemptNotice", "Checkpoint", "CheckpointAck", "RoundTripQuery", "RoundTrips",
    }  # fmt: skip
