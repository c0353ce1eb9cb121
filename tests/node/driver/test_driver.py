"""The one loop: an input, its commit, its effects, the next; time before floods; the disk first.

Spec: specs/core.md#driver.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from node.driver import driver as module
from node.driver.clock import Clock
from node.driver.commits import commit_of
from node.driver.driver import Driver, Queue
from node.storage.journal import Commit, CommitResult, Journal, OutboxRow
from protocol.core.core import Core
from protocol.machines import effects
from protocol.machines.context import Policy
from protocol.machines.events import Running
from protocol.machines.inputs import (
    DeadlineReached,
    FetchProgressed,
    Input,
    JobSubmitted,
    PeerConnected,
)
from protocol.values.errors import StorageFull
from protocol.values.ids import JobId
from tests.node.fixtures import ADA, BEA, EVE, JOB, LEASE, until
from tests.simulated_network import job_spec


class Performed:
    """Notes what is done, and in what order with what is written."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def __call__(self, effect: effects.Effect | OutboxRow) -> None:
        match effect:
            case OutboxRow(row, _, envelope):
                self.log.append((row, envelope))
            case _:
                self.log.append(type(effect).__name__)


class Scripted(Core):
    """A core that asks for what a test says."""

    def __init__(self) -> None:
        super().__init__(ADA, Policy())
        self.answer: Callable[[Input], list[effects.Effect]] = lambda event: []
        self.events: list[Input] = []
        self.deadline_ms: int | None = None

    def handle(self, event: Input, now_ms: int) -> list[effects.Effect]:
        self.events.append(event)
        return self.answer(event)

    def next_deadline_ms(self) -> int | None:
        return self.deadline_ms


class SlowJournal:
    """A journal whose disk waits for the test."""

    def __init__(self, performed: Performed) -> None:
        self.performed = performed
        self.free = trio.Event()
        self.error: Exception | None = None

    async def commit(self, commit: Any) -> CommitResult:
        await self.free.wait()
        if self.error is not None:
            raise self.error
        self.performed.log.append("commit")
        return CommitResult(tuple(range(1, len(commit.outbox) + 1)), ())


@pytest.fixture
def performed() -> Performed:
    return Performed()


@pytest.fixture
def core() -> Scripted:
    return Scripted()


ASKED = [
    effects.Save("requester-lease", LEASE, None),
    effects.Send(BEA.peer_id, b"first", 10),
    effects.Drop(LEASE),
    effects.Send(BEA.peer_id, b"once", 0),
    effects.Send(BEA.peer_id, b"unwritten", 10, durable=False),
    effects.Report(JOB, Running(BEA.peer_id)),
    effects.Send(BEA.peer_id, b"second", 10),
]
DONE = [
    "commit", "Save", (1, b"first"), "Drop", (0, b"once"), (0, b"unwritten"), "Report",
    (2, b"second"),
]  # fmt: skip


async def test_the_disk_comes_first_then_all_effects_in_order(
    core: Scripted, performed: Performed, clock: Clock
) -> None:
    journal = SlowJournal(performed)
    driver = Driver(core, journal, clock)
    core.answer = lambda event: ASKED
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run, performed, [])
        nursery.start_soon(driver.take, PeerConnected(BEA.peer_id))
        await trio.testing.wait_all_tasks_blocked()
        assert performed.log == []
        journal.free.set()
        await until(lambda: len(performed.log) == len(DONE))
        nursery.cancel_scope.cancel()
    assert performed.log == DONE


async def test_others_use_the_loop_while_many_effects_are_encoded(
    core: Scripted, performed: Performed, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENCODED_HERE_MAX", len(ASKED) - 1)
    encoding, others = threading.Event(), threading.Event()

    def encode(wanted: Any, *more: Any) -> Any:
        if wanted:
            encoding.set()
            assert others.wait(60), "nobody else had the loop"
        return commit_of(wanted, *more)

    monkeypatch.setattr(module, "commit_of", encode)
    journal = SlowJournal(performed)
    journal.free.set()
    driver = Driver(core, journal, clock)
    core.answer = lambda event: ASKED
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run, performed, [])
        nursery.start_soon(driver.take, PeerConnected(BEA.peer_id))
        await until(encoding.is_set)
        others.set()
        await until(lambda: len(performed.log) == len(DONE))
        nursery.cancel_scope.cancel()
    assert performed.log == DONE


async def test_who_hands_in_an_input_waits_for_its_effects(
    core: Scripted, performed: Performed, clock: Clock, journal: Journal
) -> None:
    driver = Driver(core, journal, clock)
    core.answer = lambda event: [effects.Drop(LEASE)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run, performed, [])
        await driver.take(PeerConnected(BEA.peer_id))
        assert performed.log == ["Drop"]
        nursery.cancel_scope.cancel()


async def test_what_waits_shares_one_commit_and_keeps_its_order(
    core: Scripted, performed: Performed, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOGETHER_MAX", 3)
    monkeypatch.setattr(module, "TOGETHER_MS", 1_000)
    journal = SlowJournal(performed)
    driver = Driver(core, journal, clock)
    core.answer = lambda event: [effects.Send(BEA.peer_id, b"%d" % event.fetched, 10)]
    taken: list[int] = []

    async def take(number: int) -> None:
        await driver.take(FetchProgressed(LEASE, number, 9))
        assert b"%d" % number in [item[1] for item in performed.log if item != "commit"]
        taken.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run, performed, [])
        for number in range(1, 6):
            nursery.start_soon(take, number)
            await trio.testing.wait_all_tasks_blocked()
        assert (len(core.events), performed.log, taken) == (1, [], [])  # The rest came meanwhile.
        journal.free.set()
        await until(lambda: len(taken) == 5)
        nursery.cancel_scope.cancel()
    commits = [[b"1"], [b"2", b"3", b"4"], [b"5"]]
    assert performed.log == [
        item
        for sent in commits
        for item in ["commit", *((row, data) for row, data in enumerate(sent, 1))]
    ]


async def test_a_long_step_does_not_make_others_wait_for_its_followers(
    core: Scripted, performed: Performed, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOGETHER_MS", 0)
    journal = SlowJournal(performed)
    journal.free.set()
    driver = Driver(core, journal, clock)
    core.answer = lambda event: [effects.Report(JOB, Running(BEA.peer_id))]
    for _ in range(2):
        driver.give(PeerConnected(BEA.peer_id))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run, performed, [])
        await until(lambda: len(performed.log) == 4)
        nursery.cancel_scope.cancel()
    assert performed.log == ["commit", "Report"] * 2


async def test_a_step_that_was_begun_is_finished(
    core: Scripted, performed: Performed, clock: Clock
) -> None:
    journal = SlowJournal(performed)
    driver = Driver(core, journal, clock)
    core.answer = lambda event: ASKED
    async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
        nursery.start_soon(driver.run, performed, [])
        driver.give(PeerConnected(BEA.peer_id))
        await until(lambda: core.events)
        nursery.cancel_scope.cancel()
        outer.start_soon(_set_when_blocked, journal.free)
    assert performed.log == DONE


async def _set_when_blocked(event: trio.Event) -> None:
    await trio.testing.wait_all_tasks_blocked()
    event.set()


async def test_a_flood_does_not_hold_up_the_time(
    core: Scripted, performed: Performed, clock: Clock, journal: Journal
) -> None:
    driver = Driver(core, journal, clock)
    for _ in range(100):
        driver.give(PeerConnected(BEA.peer_id))
    core.deadline_ms = clock.now_ms() - 1

    def answer(event: Input) -> list[effects.Effect]:
        core.deadline_ms = None
        return []

    core.answer = answer
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run, performed, [])
        await until(lambda: len(core.events) == 101)
        nursery.cancel_scope.cancel()
    assert core.events[0] == DeadlineReached()


async def test_deadlines_come_without_any_input(
    core: Scripted, performed: Performed, clock: Clock, journal: Journal
) -> None:
    driver = Driver(core, journal, clock)
    core.deadline_ms = clock.now_ms() + 20
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run, performed, [])
        await until(lambda: core.events)
        assert clock.now_ms() >= core.deadline_ms
        nursery.cancel_scope.cancel()


async def test_what_may_be_lost_is_lost_when_it_is_too_much(
    core: Scripted, performed: Performed, clock: Clock, journal: Journal
) -> None:
    driver = Driver(core, journal, clock)
    assert all(driver.give(PeerConnected(BEA.peer_id)) for _ in range(Queue.MAIN.value))
    assert not driver.give(PeerConnected(BEA.peer_id))
    # What must not be lost waits outside.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.take, FetchProgressed(LEASE, 1, 2))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(driver.run, performed, [])
        await until(lambda: FetchProgressed(LEASE, 1, 2) in core.events)
        nursery.cancel_scope.cancel()


async def test_no_queue_keeps_another_waiting(
    core: Scripted, performed: Performed, clock: Clock, journal: Journal
) -> None:
    driver = Driver(core, journal, clock)
    for queue in (Queue.STRANGERS, Queue.RECORDS):
        while driver.give(PeerConnected(EVE.peer_id), queue):
            pass
    ours = [FetchProgressed(LEASE, number, 9) for number in range(4)]
    assert all(driver.give(event) for event in ours[:3])
    assert driver.give(ours[3], Queue.CALLS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run, performed, [])
        await until(lambda: set(ours) <= set(core.events))
        nursery.cancel_scope.cancel()
    # A turn for each queue, so three rounds of four.
    assert max(core.events.index(event) for event in ours) < 3 * len(Queue)
    assert [event for event in core.events if event in ours[:3]] == ours[:3]


async def test_a_full_disk_stops_the_loop_before_anything_is_said(
    core: Scripted, performed: Performed, clock: Clock
) -> None:
    journal = SlowJournal(performed)
    journal.error = StorageFull("no room on the disk: free some space, then try again")
    journal.free.set()
    driver = Driver(core, journal, clock)
    core.answer = lambda event: ASKED
    taken = [await driver.put(PeerConnected(BEA.peer_id)) for _ in range(2)]
    with pytest.raises(ExceptionGroup) as stopped:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.run, performed, [])
    assert stopped.value.exceptions == (journal.error,)
    assert performed.log == []
    assert not any(one.is_set() for one in taken)


async def test_after_a_full_disk_the_journal_has_all_that_was_said(
    performed: Performed, clock: Clock, journal: Journal, tmp_path: Path
) -> None:
    """With a real core: what was not written was not said, and a new core goes on."""
    core = Core(ADA, Policy())
    broken = SlowJournal(performed)
    broken.error = StorageFull("no room")
    broken.free.set()
    driver = Driver(core, broken, clock)
    with pytest.raises(ExceptionGroup):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.run, performed, [])
            nursery.start_soon(driver.take, JobSubmitted(JOB, job_spec()))
    assert performed.log == []
    driver = Driver(Core(ADA, Policy()), journal, clock)  # The next start, with room.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run, performed, [])
        await driver.take(JobSubmitted(JOB, job_spec()))
        nursery.cancel_scope.cancel()
    assert [row.job_id for row in await journal.jobs()] == [JOB]
    assert [row.kind for row in await journal.events(JOB)] == ["queued"]


async def test_a_crash_after_the_commit_loses_nothing_of_what_shared_it(
    performed: Performed, clock: Clock, journal: Journal
) -> None:
    """All inputs of a commit are on the disk or none is, and nobody was told before."""

    class Cut:
        """A journal whose node dies once it has written."""

        async def commit(self, commit: Commit) -> CommitResult:
            await journal.commit(commit)
            raise KeyboardInterrupt

    driver = Driver(Core(ADA, Policy()), Cut(), clock)
    jobs = [JobId(bytes([number]) * 16) for number in range(3)]
    taken = [await driver.put(JobSubmitted(job, job_spec())) for job in jobs]
    with pytest.raises(KeyboardInterrupt):
        await driver.run(performed, [])
    assert performed.log == []
    assert not any(one.is_set() for one in taken)
    assert [row.job_id for row in await journal.open_jobs()] == jobs
    assert [[row.kind for row in await journal.events(job)] for job in jobs] == [["queued"]] * 3


async def test_the_effects_of_recovery_come_first(
    core: Scripted, performed: Performed, clock: Clock, journal: Journal
) -> None:
    driver = Driver(core, journal, clock)
    driver.give(PeerConnected(BEA.peer_id))
    core.answer = lambda event: [effects.Kill(LEASE)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run, performed, [effects.Drop(LEASE)])
        await until(lambda: len(performed.log) == 2)
        nursery.cancel_scope.cancel()
    assert performed.log == ["Drop", "Kill"]
