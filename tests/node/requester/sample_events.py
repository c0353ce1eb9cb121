"""What happens to one job, from its announcement to its end.

Spec: specs/core.md#job-events.
"""

from typing import Any

from node.driver.job_events import detail_of, kind_of
from node.storage.journal import JobEventRow
from protocol.machines import events
from protocol.values.ids import CallId, LeaseId, digest_of
from protocol.values.reasons import Failure
from protocol.wire.messages import Bid, Heartbeat
from tests.node.fixtures import ADA, BEA, JOB, LEASE

SIGNED = BEA.sign(Heartbeat(LEASE, 0, 1, 0)).envelope
CALL = CallId(b"c" * 32)
ANNOUNCED = events.Announced(CALL, 0, 3, 2)
BIDS = events.BidsOpened(
    (events.BidSeen(BEA.peer_id, Bid(277_777, "embedded", 1, 10_000, 35_000, 0), eligible=True),),
    0,
    ((ADA.peer_id, 1),),
)
AWARDED = events.Awarded(BEA.peer_id, LeaseId(b"l" * 32), 277_777, 270_000, 300_000)
WAITING = events.Queued(0, Failure.NO_PEERS, "no other node is known", 9_000)
WAY = (ANNOUNCED, BIDS, AWARDED, events.Fetching(BEA.peer_id), events.Starting(BEA.peer_id),
       events.Running(BEA.peer_id), events.Returning(0, 1_500))  # fmt: skip


def done(**changes: Any) -> events.Done:
    plain = {
        "exit_code": 0, "reason": "exited", "detail": "", "usage_ms": 1_500, "amount": 416_666,
        "outputs": digest_of(b"out"), "proposal": SIGNED, "countersign": SIGNED, "dispute": "",
    }  # fmt: skip
    return events.Done(**(plain | changes))


def rows(*happened: events.JobEvent) -> list[JobEventRow]:
    return [
        JobEventRow(JOB, number, 1_000 + 100 * number, kind_of(event), detail_of(event))
        for number, event in enumerate(happened, 1)
    ]
