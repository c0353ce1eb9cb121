"""One commit has everything of its steps that must survive a crash.

Spec: specs/core.md#outbox.
"""

import json

from node.driver.commits import commit_of
from node.storage.journal import NewMessage
from protocol.core.jobs import Ending, Job
from protocol.machines.effects import Drop, Progress, Publish, Report, Save, Send, Settle
from protocol.machines.events import Retrying
from protocol.machines.provider import lease
from protocol.values.ids import CallId, digest_of
from protocol.values.reasons import Failure
from protocol.wire.job import Resources, Workload
from protocol.wire.snapshot import from_snapshot
from tests.node.fixtures import ADA, BEA, JOB, LEASE, RESERVATION, spec_of

HELD = lease.Held(
    lease.Hold(LEASE, CallId(b"c"), ADA.peer_id, 0, 1, 1, Resources(), RESERVATION), 5, b"a"
)


def test_what_need_not_survive_is_not_written() -> None:
    effects = [
        Send(ADA.peer_id, b"x", 0),
        Send(ADA.peer_id, b"x", 7, durable=False),
        Publish("t", b"x"),
        Drop(LEASE),
        Progress(JOB, 1, 2),
    ]
    assert commit_of(effects, BEA.peer_id, 9) is None
    assert commit_of([], BEA.peer_id, 9) is None


def test_everything_else_is_one_commit() -> None:
    job = Job(JOB, spec_of(Workload(digest_of(b"i"), ("true",))), 3, ending=Ending.DONE)
    commit = commit_of([
        Save("provider-lease", LEASE, HELD),
        Save("job", JOB, job),
        Save("requester-lease", LEASE, None),
        Report(JOB, Retrying(Failure.PROVIDER_LOST, "silent", BEA.peer_id, 5, 7)),
        Send(ADA.peer_id, b"one", 7),
        Send(ADA.peer_id, b"never", 0),
        Send(ADA.peer_id, b"two", 8),
    ], BEA.peer_id, 9)  # fmt: skip
    assert commit is not None
    names = [(item.table, item.key, item.state) for item in commit.snapshots]
    assert names == [
        ("provider-lease", LEASE, "Held"),
        ("job", JOB, "done"),
        ("requester-lease", LEASE, ""),
    ]
    assert from_snapshot(lease.State, commit.snapshots[0].data or b"") == HELD
    assert commit.snapshots[2].data is None
    (event,) = commit.events
    assert (event.job_id, event.at_ms, event.kind) == (JOB, 9, "retry")
    assert json.loads(event.detail) == {
        "reason": "provider-lost", "why": "silent", "provider": BEA.peer_id, "usage_ms": 5,
        "amount": 7,
    }  # fmt: skip
    assert commit.outbox == (
        NewMessage(ADA.peer_id, b"one", 7), NewMessage(ADA.peer_id, b"two", 8),
    )  # fmt: skip


def test_of_the_states_of_one_machine_the_last_is_written() -> None:
    saves = [
        Save("provider-lease", LEASE, HELD),
        Save("requester-lease", LEASE, HELD),
        Save("provider-lease", LEASE, None),
    ]
    commit = commit_of(saves, BEA.peer_id, 9)
    assert commit is not None
    names = [(item.table, item.state) for item in commit.snapshots]
    assert names == [("provider-lease", ""), ("requester-lease", "Held")]


def test_a_receipt_is_of_our_own_role() -> None:
    settle = Settle(LEASE, BEA.peer_id, ADA.peer_id, 10, 20, b"proposal", b"")
    for own, role, other in [(BEA, "provider", ADA), (ADA, "requester", BEA)]:
        commit = commit_of([settle], own.peer_id, 9)
        assert commit is not None
        (receipt,) = commit.receipts
        assert (receipt.role, receipt.peer, receipt.at_ms) == (role, other.peer_id, 9)
        assert (receipt.usage_ms, receipt.amount, receipt.countersign) == (10, 20, b"")
