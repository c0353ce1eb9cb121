"""What the log says of jobs. Spec: specs/operation.md#jobs."""

import logging
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import get_args

import pytest

from node.daemon.job_log import JobLog, words_of
from protocol.machines import effects, events
from protocol.machines.provider.lease import Serving, Settling
from protocol.rules.capacity import Reservation
from protocol.values.ids import digest_of
from protocol.values.reasons import Failure
from protocol.wire.job import Workload
from tests.node.fixtures import BEA, JOB, LEASE

WORKLOAD = Workload(digest_of(b"image"), ("true",))


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def launch() -> effects.Launch:
    return effects.Launch(LEASE, BEA.peer_id, WORKLOAD, Reservation(WORKLOAD.resources), 1, 2)


def settling(exit_code: int) -> Settling:
    receipt = SimpleNamespace(exit_code=exit_code, usage_ms=2500, amount=347_222)
    return Settling(SimpleNamespace(), 0, b"", receipt, b"")  # type: ignore[arg-type]


def test_a_job_of_a_peer_is_told_at_its_start_and_once_at_its_end(
    said: pytest.LogCaptureFixture,
) -> None:
    log = JobLog()
    log.launched(launch())
    log.saved(LEASE, SimpleNamespace())  # The state of a lease that goes on.
    for state in (settling(3), settling(3), None):  # Billed, billed with a voucher, forgotten.
        log.saved(LEASE, state)
    start, end = said.records
    assert start.getMessage() == "a job of a peer starts here"
    assert vars(start)["lease"] == vars(end)["lease"] == LEASE.hex()[:12]
    assert vars(start)["requester"] == BEA.peer_id[-8:]
    assert end.getMessage() == "a job of a peer ended here"
    assert [vars(end)[name] for name in ("exit", "seconds", "earned")] == [3, 2.5, "0.000347222"]


def test_a_job_that_is_paused_and_goes_on(said: pytest.LogCaptureFixture) -> None:
    hold = SimpleNamespace(requester=BEA.peer_id)
    running = Serving(hold, 0, b"", WORKLOAD, 0, 0, 0, 0, b"", started=True)  # type: ignore[arg-type]
    log = JobLog()
    for since_ms in (0, 7, 7, 0):
        log.saved(LEASE, replace(running, paused_since_ms=since_ms))
    assert [record.getMessage() for record in said.records] == [
        "a job of a peer is paused here: its requester does not pay",
        "a job of a peer is resumed here",
    ]


def test_a_job_that_ended_without_a_bill(said: pytest.LogCaptureFixture) -> None:
    log = JobLog()
    log.saved(LEASE, None)  # Never started: nothing is said.
    log.launched(launch())
    log.saved(LEASE, None)
    assert [record.getMessage() for record in said.records] == [
        "a job of a peer starts here", "a job of a peer ended here, without a bill",
    ]  # fmt: skip


def test_our_own_jobs_are_told_in_words(said: pytest.LogCaptureFixture) -> None:
    JobLog().reported(effects.Report(JOB, events.Retrying(Failure.NO_BIDS, "nobody bids")))
    (record,) = said.records
    assert record.getMessage() == (
        f"job {JOB.hex()[:12]}: this attempt failed; another follows: nobody bids"
    )


VALUES = {
    "provider": BEA.peer_id, "why": "no bids", "bids": ((),), "rate": 10**6, "exit_code": 0,
    "usage_ms": 2500, "amount": 10**9,
}  # fmt: skip


@pytest.mark.parametrize("kind", get_args(events.JobEvent))
def test_every_event_has_words_of_its_own(kind: type[events.JobEvent]) -> None:
    event = kind(**{field.name: VALUES.get(field.name, 7) for field in fields(kind)})
    words = words_of(event)
    assert " " in words or words == "1 bid"
    assert kind.__name__ not in words


def test_some_words() -> None:
    assert words_of(events.Running(BEA.peer_id)) == f"running at {BEA.peer_id[-8:]}"
    assert words_of(events.BidsOpened((), 0, ())) == "0 bids"
    waiting = words_of(events.Queued(0, Failure.NO_PEERS, "no other node is known", 10_000))
    assert waiting == "waiting for capacity: no other node is known"
    returning = words_of(events.Returning(3, 2500))
    assert returning == "exited with 3 after 2.5 s; fetching log and outputs"
    failed = events.Failed(Failure.CANCELLED, "cancelled", BEA.peer_id, 2500, 10**9)
    assert words_of(failed) == "ended without a result: cancelled; paid 1.000000000 credits"
