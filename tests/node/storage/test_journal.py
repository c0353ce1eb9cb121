"""The journal keeps what it is told, in order, and all of a commit or nothing.

Spec: specs/storage.md#journal.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import trio
import trio.testing

from node.storage.journal import (
    Commit,
    CommitResult,
    JobEventRow,
    JobRow,
    Journal,
    NewEvent,
    NewMessage,
    OutboxRow,
    ReceiptRow,
    Snapshot,
    Totals,
    open_journal,
)
from protocol.values.errors import NotFound
from protocol.values.ids import Digest, JobId, LeaseId, PeerId

ADA, BEA = PeerId("ada"), PeerId("bea")
JOBS = tuple(JobId(bytes([n]) * 16) for n in range(1, 6))
RECEIPT = ReceiptRow(
    lease_id=LeaseId(b"l" * 32),
    role="provider",
    peer=ADA,
    usage_ms=1_000,
    amount=7,
    at_ms=50,
    proposal=b"proposal",
    countersign=b"",
)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    ticks = count(1_000)
    async with open_journal(tmp_path / "node.db", lambda: next(ticks)) as journal:
        yield journal


def job(job_id: JobId, state: str = "Bidding", data: bytes | None = b"job") -> Snapshot:
    return Snapshot("job", job_id, state, data)


async def test_all_of_a_commit_is_there_after_a_restart(tmp_path: Path) -> None:
    commit = Commit(
        snapshots=(job(JOBS[0]), Snapshot("award", b"k", "Open", b"award")),
        events=(NewEvent(JOBS[0], 5, "submitted", "{}"),),
        receipts=(RECEIPT,),
        outbox=(NewMessage(ADA, b"envelope", 99),),
    )
    async with open_journal(tmp_path / "node.db") as journal:
        assert await journal.commit(commit) == CommitResult(outbox_rows=(1,), event_seqs=(1,))
    async with open_journal(tmp_path / "node.db") as journal:
        (row,) = await journal.jobs()
        assert (row.job_id, row.state, row.data) == (JOBS[0], job(JOBS[0]).state, job(JOBS[0]).data)
        assert await journal.snapshots("award") == (commit.snapshots[1],)
        assert await journal.events(JOBS[0]) == (JobEventRow(JOBS[0], 1, 5, "submitted", "{}"),)
        assert await journal.receipts() == (RECEIPT,)
        assert await journal.outbox() == (OutboxRow(1, ADA, b"envelope", 99),)


async def test_it_is_busy_as_long_as_a_caller_waits(journal: Journal, tmp_path: Path) -> None:
    assert not journal.is_busy
    with closing(sqlite3.connect(tmp_path / "node.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.set_fact, "name", b"value")
            await trio.testing.wait_all_tasks_blocked()
            assert journal.is_busy
            other.execute("ROLLBACK")
    assert not journal.is_busy


async def test_nothing_of_a_commit_is_there_if_a_part_of_it_fails(journal: Journal) -> None:
    broken = replace(RECEIPT, amount=-1)
    commit = Commit(
        snapshots=(job(JOBS[0]),), outbox=(NewMessage(ADA, b"x", 9),), receipts=(broken,)
    )
    with pytest.raises(sqlite3.IntegrityError):  # A bug of the caller's: not translated.
        await journal.commit(commit)
    assert await journal.jobs() == ()
    assert await journal.outbox() == ()


async def test_newest_snapshot_counts_and_none_deletes(journal: Journal) -> None:
    for table in ("award", "requester-lease", "provider-lease"):
        await journal.commit(Commit(snapshots=(Snapshot(table, b"k", "Open", b"1"),)))
    newer = Snapshot("requester-lease", b"k", "Running", b"2")
    await journal.commit(Commit(snapshots=(newer, Snapshot("award", b"k", "Finished", None))))
    assert await journal.snapshots("award") == ()
    assert await journal.snapshots("requester-lease") == (newer,)
    assert await journal.snapshots("provider-lease") == (
        Snapshot("provider-lease", b"k", "Open", b"1"),
    )


async def test_jobs_are_listed_newest_first_by_their_first_snapshot(journal: Journal) -> None:
    for job_id in JOBS:
        await journal.commit(Commit(snapshots=(job(job_id),)))
    await journal.commit(Commit(snapshots=(job(JOBS[1], "Running", b"later"),)))
    first = await journal.jobs(limit=2)
    assert [row.job_id for row in first] == [JOBS[4], JOBS[3]]
    rest = await journal.jobs(limit=9, before=first[-1].job_id)
    assert [row.job_id for row in rest] == [JOBS[2], JOBS[1], JOBS[0]]
    assert rest[1] == JobRow(JOBS[1], "Running", b"later", created_ms=1_001)


async def test_jobs_are_read_in_the_order_they_came_from_any_place(journal: Journal) -> None:
    for job_id in (JOBS[3], JOBS[0], JOBS[2]):
        await journal.commit(Commit(snapshots=(job(job_id),)))
    found = await journal.jobs_after(0, 2)
    assert [row.job_id for _, row in found] == [JOBS[3], JOBS[0]]
    ((number, row),) = await journal.jobs_after(found[-1][0], 9)
    assert row.job_id == JOBS[2]
    await journal.commit(Commit(snapshots=(job(JOBS[2], "done"),)))
    assert await journal.jobs_after(number, 9) == ()


async def test_open_jobs_are_found_among_all_that_ever_were(journal: Journal) -> None:
    for number, job_id in enumerate(JOBS):
        state = "open" if number % 2 else "done"
        await journal.commit(Commit(snapshots=(job(job_id, state, b"x"),)))
    assert [row.job_id for row in await journal.open_jobs()] == [JOBS[1], JOBS[3]]
    assert await journal.count_jobs() == {"done": 3, "open": 2}
    await journal.commit(Commit(snapshots=(job(JOBS[1], "failed", b"x"),)))
    assert [row.job_id for row in await journal.open_jobs()] == [JOBS[3]]
    assert await journal.count_jobs() == {"done": 3, "failed": 1, "open": 1}


async def test_jobs_are_found_by_the_beginning_of_their_id(journal: Journal) -> None:
    ids = [JobId(bytes.fromhex(text.ljust(32, "7"))) for text in ("abc0", "abcf", "abd0", "ffff")]
    for job_id in ids:
        await journal.commit(Commit(snapshots=(job(job_id),)))

    async def found(prefix: str) -> list[JobId]:
        return [row.job_id for row in await journal.find_jobs(prefix, 9)]

    assert await found("abc") == ids[:2]
    assert await found("abcf") == [ids[1]]
    assert await found(ids[3].hex()) == [ids[3]]
    assert await found("") == ids
    assert (
        await found("abe")
        == await found("no hex")
        == await found("      ")
        == await found(ids[0].hex() + "0")
        == []
    )
    assert len(await journal.find_jobs("", 3)) == 3


async def test_a_job_is_found_by_its_key(journal: Journal) -> None:
    keyed = replace(job(JOBS[0]), job_key=b"mine")
    await journal.commit(Commit(snapshots=(keyed, job(JOBS[1]))))
    await journal.commit(Commit(snapshots=(job(JOBS[0], "Running", b"later"),)))
    row = await journal.job_of_key(b"mine")
    assert row is not None
    assert (row.job_id, row.state) == (JOBS[0], "Running")
    assert await journal.job_of_key(b"another") is None
    assert await journal.job_of_key(b"") is None


async def test_page_before_a_job_that_is_gone_is_refused(journal: Journal) -> None:
    with pytest.raises(NotFound, match=JOBS[0].hex()):
        await journal.jobs(before=JOBS[0])


async def test_deleted_job_takes_its_events_along(journal: Journal) -> None:
    events = tuple(NewEvent(job_id, 1, "submitted", "{}") for job_id in JOBS[:2])
    await journal.commit(Commit(snapshots=(job(JOBS[0]), job(JOBS[1])), events=events))
    await journal.commit(Commit(snapshots=(job(JOBS[0], "Finished", None),)))
    assert await journal.events(JOBS[0]) == ()
    assert len(await journal.events(JOBS[1])) == 1
    assert [row.job_id for row in await journal.jobs()] == [JOBS[1]]


async def test_events_are_numbered_per_job(journal: Journal) -> None:
    order = (JOBS[0], JOBS[1], JOBS[0])
    result = await journal.commit(
        Commit(events=tuple(NewEvent(job_id, 1, "log", "{}") for job_id in order))
    )
    assert result.event_seqs == (1, 1, 2)
    result = await journal.commit(Commit(events=(NewEvent(JOBS[0], 2, "log", "{}"),)))
    assert result.event_seqs == (3,)
    assert [event.seq for event in await journal.events(JOBS[0], after=1)] == [2, 3]


async def test_messages_leave_the_outbox_when_sent_or_expired(journal: Journal) -> None:
    messages = tuple(NewMessage(BEA, b"%d" % n, until_ms) for n, until_ms in enumerate((9, 5, 6)))
    rows = (await journal.commit(Commit(outbox=messages))).outbox_rows
    await journal.sent([rows[0]])
    await journal.sent([rows[0]])  # Twice is no harm.
    assert [row.row for row in await journal.outbox()] == list(rows[1:])
    assert await journal.drop_expired(4) == ()
    assert await journal.drop_expired(6) == (
        OutboxRow(rows[1], BEA, b"1", 5),
        OutboxRow(rows[2], BEA, b"2", 6),
    )
    assert await journal.outbox() == ()


async def test_number_of_a_message_is_never_used_again(journal: Journal) -> None:
    commit = Commit(outbox=(NewMessage(ADA, b"x", 9),))
    (first,) = (await journal.commit(commit)).outbox_rows
    await journal.sent([first])
    (second,) = (await journal.commit(commit)).outbox_rows
    assert second > first


async def test_receipt_gains_its_countersignature(journal: Journal) -> None:
    other = replace(RECEIPT, lease_id=LeaseId(b"m" * 32), at_ms=60)
    await journal.commit(Commit(receipts=(RECEIPT, other)))
    signed = replace(RECEIPT, countersign=b"signature")
    await journal.commit(Commit(receipts=(signed,)))
    assert await journal.receipts() == (other, signed)
    assert await journal.receipts(limit=1) == (other,)
    for _ in range(2):
        assert await journal.totals() == Totals(earned=signed.amount, spent=0)
        await journal.commit(Commit(receipts=(signed,)))
    assert await journal.settled_peers(limit=9) == ((signed.peer, signed.usage_ms),)


async def test_who_settled_with_us_is_known_the_newest_first(journal: Journal) -> None:
    signed = replace(RECEIPT, countersign=b"signature")
    peers = [(b"a", ADA, 70), (b"b", BEA, 80), (b"c", ADA, 90)]
    settled = [
        replace(signed, lease_id=LeaseId(name * 32), peer=peer, at_ms=at_ms, usage_ms=at_ms)
        for name, peer, at_ms in peers
    ]
    spent = replace(settled[0], role="requester", usage_ms=1_000)
    owed = replace(RECEIPT, lease_id=LeaseId(b"d" * 32), peer=PeerId("owes"), at_ms=95)
    await journal.commit(Commit(receipts=(*settled, spent, owed)))
    assert await journal.settled_peers(9) == ((ADA, 160), (BEA, 80))
    assert await journal.settled_peers(1) == ((ADA, 90),)


async def test_totals_are_exact_beyond_64_bits(journal: Journal) -> None:
    assert await journal.totals() == Totals(earned=0, spent=0)
    great = 2**63 - 1
    leases = [LeaseId(bytes([n]) * 32) for n in range(3)]
    signed = replace(RECEIPT, countersign=b"signature")
    earned = tuple(replace(signed, lease_id=lease, amount=great) for lease in leases)
    spent = replace(signed, role="requester", amount=5)
    owed = replace(RECEIPT, lease_id=LeaseId(bytes([9]) * 32), amount=7)
    await journal.commit(Commit(receipts=(*earned, spent, owed)))
    assert await journal.totals() == Totals(earned=3 * great, spent=5)


async def test_blobs_are_known_until_forgotten(journal: Journal) -> None:
    one, two = Digest(b"1" * 32), Digest(b"2" * 32)
    await journal.record_blobs([(two, 20, "output"), (one, 10, "input"), (one, 11, "image")])
    assert await journal.known_blobs() == ((one, 11, "image"), (two, 20, "output"))
    for _ in range(2):
        await journal.forget_blobs([one])
    assert await journal.known_blobs() == ((two, 20, "output"),)


async def test_fact_is_replaced(journal: Journal) -> None:
    assert await journal.fact("sequence") is None
    await journal.set_fact("sequence", b"1")
    await journal.set_fact("sequence", b"2")
    assert await journal.fact("sequence") == b"2"


async def test_unknown_table_is_a_bug(journal: Journal) -> None:
    with pytest.raises(AssertionError):
        await journal.snapshots("jobs")
    with pytest.raises(AssertionError):
        await journal.commit(Commit(snapshots=(Snapshot("jobs", b"k", "Open", b"1"),)))
