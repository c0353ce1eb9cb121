"""The journal: the node's durable state, and the messages that it still has to send.

A `Commit` contains a change of state and the exact bytes to send (a transactional outbox): after a
crash the node has both or neither.
Spec: specs/storage.md#journal.
"""

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

from node.storage import statements as sql
from node.storage.database import Database, open_database
from node.storage.migrations import migrate
from protocol.values.errors import NotFound
from protocol.values.ids import Digest, JobId, LeaseId, PeerId

MACHINES: Final = ("award", "requester-lease", "provider-lease")
HEX_DIGITS: Final = frozenset("0123456789abcdef")
TABLES: Final = ("job", "answer", *MACHINES)
"""The kinds of snapshots."""
ANSWERS_KEPT: Final = 10_000
"""The newest answers to calls that are kept: a few MiB."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of one machine; the newest of its table and key is valid."""

    table: str
    """One of TABLES."""
    key: bytes
    state: str
    """The state's name, for people and queries."""
    data: bytes | None
    """The state; None deletes the snapshot, and the events of a job."""
    job_key: bytes = b""
    """The idempotency key of a new job."""
    place: int = 0
    """The place of a new job in its array."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as last written."""

    job_id: JobId
    state: str
    data: bytes
    created_ms: int
    """When its first snapshot was written, in milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event of a job for the user."""

    job_id: JobId
    at_ms: int
    kind: str
    detail: str
    """JSON."""


@dataclass(frozen=True, slots=True)
class JobEventRow:
    """An event as written."""

    job_id: JobId
    seq: int
    """1, 2, 3 … within the job."""
    at_ms: int
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """What the last event of an attempt at a job says."""

    job_id: JobId
    at_ms: int
    kind: str
    """`retry`, `done` or `failed`."""
    exit_code: int | None
    reason: str
    why: str
    amount: int | None
    """Nano-credits."""


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """A receipt; the newest of its lease and role is valid."""

    lease_id: LeaseId
    role: Literal["requester", "provider"]
    """Our own role in the lease."""
    peer: PeerId
    """The other side."""
    usage_ms: int
    amount: int
    """Nano-credits."""
    at_ms: int
    proposal: bytes
    """The provider's signed account, as it was sent."""
    countersign: bytes
    """The requester's signature on it; empty until it arrives."""
    voucher: bytes = b""
    """The newest voucher for the lease; empty if there is none."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to send after its commit is on disk."""

    peer: PeerId
    envelope: bytes
    until_ms: int
    """After this instant it is discarded."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message that is not acknowledged."""

    row: int
    """The message's permanent number; later messages have greater numbers."""
    peer: PeerId
    envelope: bytes
    until_ms: int


@dataclass(frozen=True, slots=True)
class Commit:
    """One atomic write."""

    snapshots: tuple[Snapshot, ...] = ()
    events: tuple[NewEvent, ...] = ()
    receipts: tuple[ReceiptRow, ...] = ()
    outbox: tuple[NewMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The numbers assigned to the parts of a commit, in the commit's order."""

    outbox_rows: tuple[int, ...]
    event_seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums of all receipts, in nano-credits."""

    earned: int
    spent: int


class Journal:
    """The tables of the node's file. `open_journal` opens it.

    Every method may raise StorageFull or DatabaseUnusable, and then wrote nothing. When a writing
    method returns, its changes are on disk.
    """

    def __init__(self, database: Database, clock_ms: Callable[[], int]) -> None:
        self._database = database
        self._clock_ms = clock_ms
        self._notes: dict[bytes, Snapshot] = {}
        """What the next commit writes too, by key."""

    @property
    def is_busy(self) -> bool:
        """Whether a caller waits for the disk."""
        return self._database.is_busy

    def note(self, snapshot: Snapshot) -> None:
        """Write a snapshot with the next commit, without waiting. A crash before loses it."""
        self._notes[snapshot.key] = snapshot

    async def write_notes(self) -> None:
        """Write what no commit has written yet."""
        if self._notes:
            await self.commit(Commit())

    async def commit(self, commit: Commit) -> CommitResult:
        """Write all parts of the commit, and what was noted, in one transaction."""
        now_ms = self._clock_ms()
        notes, self._notes = self._notes, {}

        def unit(connection: sqlite3.Connection) -> CommitResult:
            for snapshot in (*commit.snapshots, *notes.values()):
                _write_snapshot(connection, snapshot, now_ms)
            for receipt in commit.receipts:
                connection.execute(sql.WRITE_RECEIPT, _values(receipt))
            events = [_insert(connection, sql.ADD_EVENT, event) for event in commit.events]
            rows = [_insert(connection, sql.ADD_MESSAGE, new) for new in commit.outbox]
            return CommitResult(outbox_rows=tuple(rows), event_seqs=tuple(events))

        result = None
        try:
            result = await self._database.write(unit)
        finally:
            if result is None:
                self._notes = notes | self._notes
        return result

    async def answers(self, limit: int) -> tuple[bytes, ...]:
        """Return the newest answers to calls, the newest first; not those only noted."""
        return tuple(row[0] for row in await self._read(sql.ANSWERS, limit))

    async def answers_in(self, state: str) -> tuple[bytes, ...]:
        """Return the answers to calls that are in one state, the oldest first."""
        return tuple(row[0] for row in await self._read(sql.ANSWERS_IN, state))

    async def snapshots(self, table: str) -> tuple[Snapshot, ...]:
        """Return the snapshots of one kind of machine, by key."""
        assert table in MACHINES, table
        return tuple(Snapshot(table, *row) for row in await self._read(sql.MACHINES, table))

    async def open_jobs(self) -> tuple[JobRow, ...]:
        """Return the jobs that have not ended, in the order they came."""
        return tuple(JobRow(*row) for row in await self._read(sql.OPEN_JOBS))

    async def find_jobs(self, prefix: str, limit: int) -> tuple[JobRow, ...]:
        """Return jobs whose id in hex begins with a prefix; none if that is not hex."""
        if len(prefix) > 32 or not HEX_DIGITS.issuperset(prefix):
            return ()
        least, most = (JobId(bytes.fromhex(prefix.ljust(32, digit))) for digit in "0f")
        return tuple(JobRow(*row) for row in await self._read(sql.JOBS_BETWEEN, least, most, limit))

    async def jobs_between(self, least: JobId, most: JobId) -> tuple[JobRow, ...]:
        """Return the jobs with ids in a range, by id."""
        return tuple(JobRow(*row) for row in await self._read(sql.JOBS_BETWEEN, least, most, -1))

    async def states_between(self, least: JobId, most: JobId) -> Mapping[JobId, str]:
        """Return the states of the jobs with ids in a range, by id."""
        return dict(await self._read(sql.STATES_BETWEEN, least, most))

    async def ends_between(self, least: JobId, most: JobId) -> tuple[AttemptEnd, ...]:
        """Return the ends of the attempts of the jobs with ids in a range, by id, in order."""
        return tuple(AttemptEnd(*row) for row in await self._read(sql.ENDS_BETWEEN, least, most))

    async def job_of_key(self, key: bytes) -> JobRow | None:
        """Return the job with an idempotency key; None if there is none."""
        rows = await self._read(sql.JOB_OF_KEY, key)
        return JobRow(*rows[0]) if rows else None

    async def count_jobs(self) -> Mapping[str, int]:
        """Return how many jobs are in each state."""
        return dict(await self._read(sql.JOBS_BY_STATE))

    async def jobs(self, limit: int = 100, before: JobId | None = None) -> tuple[JobRow, ...]:
        """Return the newest jobs, or the newest that came before one; NotFound if that is gone."""
        if before is None:
            return tuple(JobRow(*row) for row in await self._read(sql.NEWEST_JOBS, limit))
        if not await self._read(sql.HAS_JOB, before):
            raise NotFound(f"there is no job {before.hex()}")
        return tuple(JobRow(*row) for row in await self._read(sql.JOBS_BEFORE, before, limit))

    async def jobs_after(self, number: int, limit: int) -> tuple[tuple[int, JobRow], ...]:
        """Return jobs that came after one, with their numbers, which only grow, in that order."""
        rows = await self._read(sql.JOBS_AFTER, number, limit)
        return tuple((row[0], JobRow(*row[1:])) for row in rows)

    async def events(self, job_id: JobId, after: int = 0) -> tuple[JobEventRow, ...]:
        """Return the events of a job whose `seq` is greater than `after`, in order."""
        rows = await self._read(sql.EVENTS, job_id, after)
        return tuple(JobEventRow(*row) for row in rows)

    async def receipts(self, limit: int = 100) -> tuple[ReceiptRow, ...]:
        """Return the newest receipts, the newest first."""
        return tuple(ReceiptRow(*row) for row in await self._read(sql.RECEIPTS, limit))

    async def settled_peers(self, limit: int) -> tuple[tuple[PeerId, int], ...]:
        """Return the peers of so many receipts that both sides signed, the newest first.

        Each comes with the usage, in ms, for which it paid this node.
        """
        paid: dict[PeerId, int] = {}
        for peer, usage_ms in await self._read(sql.SETTLED, limit):
            paid[PeerId(peer)] = paid.get(PeerId(peer), 0) + usage_ms
        return tuple(paid.items())

    async def totals(self) -> Totals:
        """Return the totals earned and spent, from the receipts that both sides signed."""
        sums = {role: (high << 32) + low for role, high, low in await self._read(sql.TOTALS)}
        return Totals(earned=sums["provider"], spent=sums["requester"])

    async def outbox(self) -> tuple[OutboxRow, ...]:
        """Return the messages to send, the oldest first."""
        return tuple(OutboxRow(*row) for row in await self._read(sql.OUTBOX))

    async def sent(self, rows: Sequence[int]) -> None:
        """Delete acknowledged messages from the outbox, if they are still there."""
        await self._write_all(sql.FORGET_MESSAGE, [(row,) for row in rows])

    async def drop_expired(self, now_ms: int) -> tuple[OutboxRow, ...]:
        """Delete the messages whose deadline has passed, and return them, the oldest first."""
        rows = await self._write(sql.DROP_EXPIRED, now_ms)
        return tuple(sorted((OutboxRow(*row) for row in rows), key=lambda message: message.row))

    async def record_blobs(self, blobs: Sequence[tuple[Digest, int, str]]) -> None:
        """Record blobs that we have, with size in bytes and kind; the last record counts."""
        await self._write_all(sql.RECORD_BLOB, blobs)

    async def forget_blobs(self, digests: Sequence[Digest]) -> None:
        """Delete the records of blobs, if there are any."""
        await self._write_all(sql.FORGET_BLOB, [(digest,) for digest in digests])

    async def known_blobs(self) -> tuple[tuple[Digest, int, str], ...]:
        """Return digest, size in bytes and kind of all recorded blobs, by digest."""
        return tuple((Digest(row[0]), row[1], row[2]) for row in await self._read(sql.BLOBS))

    async def fact(self, name: str) -> bytes | None:
        """Return the value of a name; None if it is not set."""
        rows = await self._read(sql.FACT, name)
        return bytes(rows[0][0]) if rows else None

    async def set_fact(self, name: str, value: bytes) -> None:
        """Set the value of a name."""
        await self._write(sql.SET_FACT, name, value)

    async def _read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return await self._database.read(lambda connection: _fetch(connection, statement, values))

    async def _write(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return await self._database.write(lambda connection: _fetch(connection, statement, values))

    async def _write_all(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Execute a statement once for each row, in one transaction."""

        def unit(connection: sqlite3.Connection) -> None:
            connection.executemany(statement, rows)

        await self._database.write(unit)


@asynccontextmanager
async def open_journal(
    path: Path, clock_ms: Callable[[], int] = lambda: time.time_ns() // 10**6
) -> AsyncIterator[Journal]:
    """Open the node's database file, created if missing; raise StorageFull or DatabaseUnusable.

    `clock_ms` returns the time, for when jobs are first written.
    """
    async with open_database(path, migrate) as database:
        yield Journal(database, clock_ms)


def _write_snapshot(connection: sqlite3.Connection, snapshot: Snapshot, now_ms: int) -> None:
    assert snapshot.table in TABLES, snapshot.table
    table, key, state, data, job_key, place = _values(snapshot)
    match table, data:
        case "job", None:
            connection.execute(sql.FORGET_EVENTS, (key,))
            connection.execute(sql.FORGET_JOB, (key,))
        case "job", _:
            # Not an upsert, which would use up a number each time (AUTOINCREMENT).
            known = _fetch(connection, sql.UPDATE_JOB, (state, data, key))
            if not known:
                connection.execute(sql.ADD_JOB, (key, state, data, now_ms, job_key, place))
        case "answer", _:
            known = _fetch(connection, sql.UPDATE_ANSWER, (state, data, key))
            if not known:
                connection.execute(sql.ADD_ANSWER, (key, state, data))
                connection.execute(sql.FORGET_ANSWERS, (ANSWERS_KEPT,))
        case _, None:
            connection.execute(sql.FORGET_MACHINE, (table, key))
        case _:
            connection.execute(sql.WRITE_MACHINE, (table, key, state, data))


def _insert(connection: sqlite3.Connection, statement: str, new: NewEvent | NewMessage) -> int:
    """Insert a row and return its number."""
    ((number,),) = _fetch(connection, statement, _values(new))
    assert isinstance(number, int)
    return number


def _fetch(
    connection: sqlite3.Connection, statement: str, values: Iterable[object]
) -> list[tuple[Any, ...]]:
    return connection.execute(statement, tuple(values)).fetchall()


def _values(row: Snapshot | NewEvent | ReceiptRow | NewMessage) -> tuple[Any, ...]:
    """Return the fields in order, which is the order of the statement's columns."""
    return tuple(getattr(row, field.name) for field in fields(row))
