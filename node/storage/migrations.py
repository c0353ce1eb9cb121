"""The schema, as numbered migrations from an empty file.

`PRAGMA user_version` contains the number of migrations applied to a file. Each is one transaction.
Never change a released migration; append another, and freeze a file of the version before it beside
tests/node/storage/test_migrations.py.
Spec: specs/storage.md#schema.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

from node.storage.sqlite_errors import DatabaseUnusable
from protocol.core.jobs import Job
from protocol.wire.snapshot import from_snapshot

Migration = tuple[str, ...]
"""The statements of one migration."""

SQLITE_MIN: Final = (3, 37, 0)
"""STRICT tables enforce the types of columns."""

FIRST: Final[Migration] = (
    # `number` is the order of arrival: unlike a clock it never goes back.
    """CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        job_id BLOB NOT NULL UNIQUE,
        state TEXT NOT NULL,
        data BLOB NOT NULL,
        created_ms INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE job_events (
        job_id BLOB NOT NULL,
        seq INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        kind TEXT NOT NULL,
        detail TEXT NOT NULL,
        PRIMARY KEY (job_id, seq)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE machines (
        kind TEXT NOT NULL,
        key BLOB NOT NULL,
        state TEXT NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (kind, key)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE receipts (
        lease_id BLOB NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('requester', 'provider')),
        peer TEXT NOT NULL,
        usage_ms INTEGER NOT NULL CHECK (usage_ms >= 0),
        amount INTEGER NOT NULL CHECK (amount >= 0),
        at_ms INTEGER NOT NULL,
        proposal BLOB NOT NULL,
        countersign BLOB NOT NULL,
        voucher BLOB NOT NULL,
        PRIMARY KEY (lease_id, role)
    ) STRICT""",
    "CREATE INDEX receipts_by_time ON receipts (at_ms)",
    "CREATE INDEX receipts_by_role ON receipts (role, amount)",
    # AUTOINCREMENT: the number of a sent message is never reused.
    """CREATE TABLE outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        peer TEXT NOT NULL,
        envelope BLOB NOT NULL,
        until_ms INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX outbox_by_end ON outbox (until_ms)",
    """CREATE TABLE blobs (
        digest BLOB PRIMARY KEY,
        size INTEGER NOT NULL CHECK (size >= 0),
        kind TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
)

ROLES: Final[Migration] = (
    "UPDATE machines SET kind = 'requester-lease' WHERE kind = 'lease'",
    "UPDATE machines SET kind = 'provider-lease' WHERE kind = 'serving'",
)

HISTORY: Final[Migration] = (
    "ALTER TABLE jobs ADD COLUMN key BLOB NOT NULL DEFAULT x''",
    "UPDATE jobs SET key = job_key(data)",
    "CREATE INDEX jobs_by_key ON jobs (key) WHERE key != x''",
    "CREATE INDEX jobs_by_state ON jobs (state)",
    # In halves of 32 bits: the sum of whole amounts could leave SQLite's 64 bits.
    """CREATE TABLE totals (
        role TEXT PRIMARY KEY,
        high INTEGER NOT NULL,
        low INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """INSERT INTO totals SELECT roles.column1,
        coalesce(sum(amount >> 32), 0), coalesce(sum(amount & 0xffffffff), 0)
        FROM (VALUES ('requester'), ('provider')) AS roles
        LEFT JOIN receipts ON role = roles.column1 AND length(countersign) > 0
        GROUP BY roles.column1""",
    """CREATE TRIGGER receipts_added AFTER INSERT ON receipts WHEN length(NEW.countersign) > 0 BEGIN
        UPDATE totals SET high = high + (NEW.amount >> 32), low = low + (NEW.amount & 0xffffffff)
        WHERE role = NEW.role;
    END""",
    """CREATE TRIGGER receipts_changed AFTER UPDATE ON receipts BEGIN
        UPDATE totals SET
            high = high + iif(length(NEW.countersign) > 0, NEW.amount >> 32, 0)
                        - iif(length(OLD.countersign) > 0, OLD.amount >> 32, 0),
            low = low + iif(length(NEW.countersign) > 0, NEW.amount & 0xffffffff, 0)
                      - iif(length(OLD.countersign) > 0, OLD.amount & 0xffffffff, 0)
        WHERE role = NEW.role;
    END""",
)

AWARDS: Final[Migration] = (
    # An award is saved, not its auction. Under one of an earlier version nothing has started: its
    # provider releases the capacity, and the job gets another slot.
    "DELETE FROM machines WHERE kind = 'auction'",
)

ARRAYS: Final[Migration] = (
    # The first member stands for its array in the list of jobs.
    "ALTER TABLE jobs ADD COLUMN place INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX jobs_listed ON jobs (number) WHERE place = 0",
)

ANSWERS: Final[Migration] = (
    # Without AUTOINCREMENT: the newest rows are never deleted, so their numbers have no gap.
    """CREATE TABLE answers (
        number INTEGER PRIMARY KEY,
        call_id BLOB NOT NULL UNIQUE,
        state TEXT NOT NULL,
        data BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX answers_by_state ON answers (state)",
)

MIGRATIONS: Final[tuple[Migration, ...]] = (FIRST, ROLES, HISTORY, AWARDS, ARRAYS, ANSWERS)
"""Step n (from 1) leads from version n-1 to version n."""


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Migrate the file to the newest version; raise DatabaseUnusable if it is newer.

    A newer file is not changed. A failed step leaves the previous version.
    """
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        raise DatabaseUnusable(
            f"this Python brings SQLite {sqlite3.sqlite_version}, 3.37 or newer is needed:"
            " run the node with another Python"
        )
    version = schema_version(connection)
    if version > len(migrations):
        raise DatabaseUnusable(
            f"{_file_of(connection)} was written by a newer version of mutirao (schema"
            f" {version}, this one knows {len(migrations)}): install that version again"
        )
    connection.create_function("job_key", 1, _job_key, deterministic=True)
    for number, statements in enumerate(migrations[version:], start=version + 1):
        _take(connection, number, statements)


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the number of migrations applied to the file; 0 for an empty one."""
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    assert isinstance(version, int)
    return version


def _take(connection: sqlite3.Connection, number: int, statements: Migration) -> None:
    """Apply one migration. If it fails, the caller closes the connection, which undoes it."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in statements:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={number}")
    connection.execute("COMMIT")


def _job_key(snapshot: bytes) -> bytes:
    """Return the idempotency key of a job as an earlier version wrote it; empty if it has none."""
    try:
        job: Job = from_snapshot(Job, snapshot)
    except ValueError:
        return b""
    return job.spec.key


def _file_of(connection: sqlite3.Connection) -> str:
    ((_, _, file),) = connection.execute("PRAGMA database_list").fetchall()
    return str(file)
