"""Containers in virtual time: they end with their work, pause at their budget, and may be lost.

Spec: specs/lease.md#exposure.
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.simulator.containers import (
    KILLED,
    NOTICED_MS,
    SAVING_MS,
    TERMINATED,
    WORK,
    Containers,
    work_of,
)
from node.simulator.engine import Engine
from node.simulator.identities import Numbers
from node.simulator.node import SimulatedNode
from protocol.core.core import Core
from protocol.machines import effects, inputs
from protocol.machines.context import Policy
from protocol.rules.capacity import Reservation
from protocol.values.ids import LeaseId, PeerId, digest_of
from protocol.wire.job import BlobRef, Resources, Workload

LEASE = LeaseId(bytes(32))
REQUESTER = PeerId("requester")


class Machine:
    """One node with containers; a tick is a millisecond."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.told: list[tuple[int, inputs.Input]] = []
        self.containers = Containers(self)
        self.node = SimulatedNode(0, Policy(), Core(Numbers(0).signer(0), Policy()))

    @property
    def now_ms(self) -> int:
        return self.engine.now

    def after(self, delay_ms: int, call: Any, *arguments: Any) -> None:
        self.engine.after(delay_ms, call, *arguments)

    def later(self, delay_ms: int, node: SimulatedNode, call: Any, *arguments: Any) -> None:
        generation = node.generation
        self.engine.after(
            delay_ms, lambda: call(*arguments) if node.generation == generation else None
        )

    def restart(self, away_ms: int) -> None:
        """Let the daemon go, and come back later."""
        self.node.online, self.node.generation = False, self.node.generation + 1
        self.engine.run(self.now_ms + away_ms)
        self.node.online = True

    def process(self, node: SimulatedNode, call: Any, *arguments: Any) -> None:
        call(*arguments)

    def give(self, node: SimulatedNode, event: inputs.Input) -> None:
        self.told.append((self.now_ms, event))

    def launch(
        self, work_ms: int, budget_ms: int = 10**9, pause_ms: int = 100, resume: tuple = ()
    ) -> None:
        workload = replace(workload_of(work_ms), resume=resume)
        reservation = Reservation(workload.resources)
        wanted = effects.Launch(LEASE, REQUESTER, workload, reservation, budget_ms, pause_ms)
        self.containers.launch(self.node, wanted)

    def run(self, until_ms: int) -> list[tuple[int, inputs.Input]]:
        """Let time pass; return what the node was told meanwhile."""
        self.told.clear()
        self.engine.run(until_ms)
        return list(self.told)

    def extend(self, budget_ms: int) -> None:
        self.containers.extend(self.node, effects.Extend(LEASE, budget_ms))


def workload_of(work_ms: int) -> Workload:
    return Workload(digest_of(b"image"), (WORK, str(work_ms)), resources=Resources())


def exits(told: list[tuple[int, inputs.Input]]) -> list[tuple[int, str, int, int]]:
    """Return when a container ended, why, with which code, and its usage."""
    return [
        (at_ms, event.reason, event.exit_code, event.usage_ms)
        for at_ms, event in told if isinstance(event, inputs.ContainerExited)
    ]  # fmt: skip


def test_a_container_ends_when_its_work_is_done() -> None:
    machine = Machine()
    machine.launch(5_000)
    started, exited = machine.run(6_000)
    assert started == (NOTICED_MS, inputs.ContainerStarted(LEASE, NOTICED_MS))
    assert exits([exited]) == [(5_000 + NOTICED_MS, "exited", 0, 5_000)]


def test_it_pauses_at_its_budget_and_goes_on_when_that_grows() -> None:
    machine = Machine()
    machine.launch(5_000, budget_ms=2_000, pause_ms=10_000)
    assert not exits(machine.run(8_000))
    machine.extend(2_000)
    machine.extend(6_000)
    same, more, exited = machine.run(20_000)
    assert same == (8_000 + NOTICED_MS, inputs.ContainerExtended(LEASE, 2_000))
    assert more == (8_000 + NOTICED_MS, inputs.ContainerExtended(LEASE, 2_000 + NOTICED_MS))
    assert exits([exited]) == [(11_000 + NOTICED_MS, "exited", 0, 5_000)]


def test_it_is_given_up_if_it_is_paused_for_too_long() -> None:
    machine = Machine()
    machine.launch(5_000, budget_ms=2_000, pause_ms=700)
    assert exits(machine.run(9_000)) == [(2_700 + NOTICED_MS, "budget", KILLED, 2_000)]
    machine.extend(9_000)
    assert machine.run(20_000) == []


def test_a_pause_that_has_ended_is_not_given_up() -> None:
    machine = Machine()
    machine.launch(50_000, budget_ms=2_000, pause_ms=700)
    machine.run(2_600)
    machine.extend(2_200)
    assert exits(machine.run(60_000)) == [(2_600 + 200 + 700 + NOTICED_MS, "budget", KILLED, 2_200)]


def test_a_budget_that_grows_in_time_pauses_nothing() -> None:
    machine = Machine()
    machine.launch(5_000, budget_ms=2_000)
    machine.run(1_500)
    machine.extend(9_000)
    assert exits(machine.run(9_000)) == [(5_000 + NOTICED_MS, "exited", 0, 5_000)]


@settings(max_examples=40)
@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 80)), max_size=8),
)
def test_whatever_its_budgets_it_uses_no_more_and_ends_once(
    work_ms: int, budget_ms: int, budgets: list[tuple[int, int]]
) -> None:
    machine = Machine()
    machine.launch(work_ms, budget_ms, pause_ms=10_000)
    told = machine.run(0)
    for after_ms, more_ms in budgets:
        told += machine.run(machine.now_ms + after_ms)
        machine.extend(more_ms)
        budget_ms = max(budget_ms, more_ms)
        container = machine.node.containers[LEASE]
        assert container.used_ms(machine.now_ms) <= min(budget_ms, work_ms)
    told += machine.run(machine.now_ms + 1_000)
    ended = exits(told)
    assert len(ended) == (budget_ms >= work_ms)
    assert all(usage_ms == work_ms for _, _, _, usage_ms in ended)


def test_a_killed_container_has_used_what_it_has_used() -> None:
    machine = Machine()
    machine.launch(5_000)
    machine.run(1_200)
    for _ in range(2):
        machine.containers.kill(machine.node, effects.Kill(LEASE))
    assert exits(machine.run(9_000)) == [(1_200 + NOTICED_MS, "killed", KILLED, 1_200)]


def test_one_that_is_discarded_is_forgotten_and_may_be_launched_again() -> None:
    machine = Machine()
    machine.launch(5_000)
    machine.run(100)
    machine.containers.drop(machine.node, effects.Drop(LEASE))
    machine.containers.kill(machine.node, effects.Kill(LEASE))
    machine.extend(9_000)
    assert machine.run(9_000) == []
    assert not machine.node.disk.launched
    machine.launch(1_000)
    assert exits(machine.run(20_000)) == [(10_000 + NOTICED_MS, "exited", 0, 1_000)]


def test_one_that_went_with_its_machine_is_not_started_again() -> None:
    machine = Machine()
    machine.launch(5_000)
    machine.run(100)
    machine.node.containers.clear()
    machine.launch(5_000)
    ((_, failed),) = machine.run(20_000)
    assert isinstance(failed, inputs.ContainerFailed)
    assert not machine.node.containers


def test_a_container_goes_on_while_its_daemon_is_away_and_is_adopted() -> None:
    machine = Machine()
    machine.launch(5_000)
    machine.run(1_000)
    machine.restart(2_000)
    machine.launch(5_000, budget_ms=10**10)
    started, exited = machine.run(9_000)
    assert started == (3_000 + NOTICED_MS, inputs.ContainerStarted(LEASE, 3_000 + NOTICED_MS))
    assert exits([exited]) == [(5_000 + NOTICED_MS, "exited", 0, 5_000)]
    assert machine.node.containers[LEASE].budget_ms == 10**10


def test_a_budget_that_grew_meanwhile_resumes_an_adopted_container() -> None:
    machine = Machine()
    machine.launch(5_000, budget_ms=2_000, pause_ms=60_000)
    machine.run(2_500)
    machine.restart(500)
    machine.launch(5_000, budget_ms=4_000, pause_ms=60_000)
    assert exits(machine.run(20_000)) == []
    assert machine.node.containers[LEASE].used_ms(20_000) == 4_000


@pytest.mark.parametrize("what", ["adopts", "kills"])
def test_a_daemon_hears_once_of_a_container_that_ended_while_it_was_away(what: str) -> None:
    machine = Machine()
    machine.launch(2_000)
    machine.run(1_000)
    machine.restart(5_000)
    assert machine.run(7_000) == [], "no daemon watches it yet"
    if what == "adopts":
        machine.launch(2_000)
    else:
        machine.containers.kill(machine.node, effects.Kill(LEASE))
    machine.containers.kill(machine.node, effects.Kill(LEASE))
    assert exits(machine.run(9_000)) == [(7_000 + NOTICED_MS, "exited", 0, 2_000)]


def test_a_second_launch_without_a_restart_is_an_error() -> None:
    machine = Machine()
    machine.launch(2_000)
    with pytest.raises(AssertionError):
        machine.launch(2_000)


def test_a_container_without_a_lease_is_removed() -> None:
    machine = Machine()
    machine.launch(2_000)
    other = LeaseId(bytes([1]) * 32)
    machine.node.containers[other] = replace(machine.node.containers[LEASE])
    provider = SimpleNamespace(leases={other: None})
    node = cast("Any", SimpleNamespace(containers=machine.node.containers))
    node.core = SimpleNamespace(provider=provider)
    machine.containers.reap(node)
    assert list(machine.node.containers) == [other]


def checkpoint(machine: Machine, mark: bytes = b"") -> None:
    wanted = effects.TakeCheckpoint(LEASE, workload_of(5_000), mark)
    machine.containers.take_checkpoint(machine.node, wanted)


def test_the_next_attempt_continues_from_a_checkpoint() -> None:
    machine = Machine()
    machine.launch(5_000)
    machine.run(3_000)
    checkpoint(machine)
    ((_, taken),) = machine.run(3_100)
    assert isinstance(taken, inputs.CheckpointTaken)
    assert taken.mark == b"3000"
    elsewhere = LeaseId(bytes([1]) * 32)
    machine.containers.drop(machine.node, effects.Drop(LEASE))
    machine.launch(5_000, resume=(taken.listing,))
    assert exits(machine.run(9_000)) == [(5_100 + NOTICED_MS, "exited", 0, 2_000)]
    checkpoint(machine)
    ((_, last),) = machine.run(9_100)
    assert (last.mark, last.listing.digest != taken.listing.digest) == (b"5000", True)
    assert elsewhere not in machine.node.containers


def test_a_checkpoint_of_no_container_is_not_taken() -> None:
    machine = Machine()
    checkpoint(machine)
    machine.launch(1_000)
    machine.run(2_000)
    checkpoint(machine, b"1000")  # It has ended, and this is what it left.
    assert machine.run(3_000) == []


def test_a_terminated_job_saves_its_state_and_ends() -> None:
    machine = Machine()
    machine.launch(5_000)
    machine.run(1_000)
    machine.containers.terminate(machine.node, effects.Terminate(LEASE, workload_of(5_000)))
    (_, taken), (_, exited) = machine.run(3_000)
    assert isinstance(taken, inputs.CheckpointTaken)
    assert taken.mark == b"%d" % (1_000 + SAVING_MS)
    assert (exited.exit_code, exited.usage_ms) == (TERMINATED, 1_000 + SAVING_MS)


def test_the_command_says_how_much_work_it_is() -> None:
    assert work_of(workload_of(7)) == 7
    with pytest.raises(AssertionError):
        work_of(replace(workload_of(7), command=("true", "7")))


def test_an_unknown_checkpoint_holds_no_work() -> None:
    machine = Machine()
    machine.launch(5_000, resume=(BlobRef(digest_of(b"unknown"), 64),))
    assert exits(machine.run(9_000)) == [(5_000 + NOTICED_MS, "exited", 0, 5_000)]
