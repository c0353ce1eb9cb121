"""The SQLite thread: asyncio runs aiosqlite there, one writer and a few readers.

The node runs on trio, aiosqlite on asyncio, SQLite on aiosqlite's thread for its connection. A
whole batch of units crosses these borders once, not each statement: waking a thread costs more than
most statements. This file knows nothing of trio; node/storage/database.py is the trio side.

The writer commits what is queued together, because a commit waits for the disk (*group commit*).
Each unit runs in its own savepoint: a failed unit writes nothing and does not affect others.
Spec: specs/storage.md#the-thread-of-sqlite.
"""

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import aiosqlite
import outcome

T = TypeVar("T")
Unit = Callable[[sqlite3.Connection], T]
"""A unit of work: it runs on the thread of its connection.

    Its only effects are on the connection: after the disk was full it may run a second time.
"""

BATCH_MAX: Final = 64
"""Maximum units per commit, which bounds how long the first waits for the others."""
READERS: Final = 2
ENDED: Final = "a unit of work must not end the transaction that it is in"
SESSION: Final = (
    "PRAGMA busy_timeout=5000",
    "PRAGMA synchronous=FULL",  # NORMAL may lose the last commits when the power fails.
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA journal_size_limit=67108864",
)
"""Settings of one connection that do not change the file."""


@dataclass(eq=False, slots=True)
class Request:
    """A unit of work for the SQLite thread, and the callback for its result."""

    unit: Unit[Any]
    answer: Callable[[outcome.Outcome[Any]], None]
    """Called once, in the SQLite thread, unless the caller withdrew the request."""
    _taken: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> bool:
        """Return True to the first caller, from either thread.

        The SQLite thread claims a request to run it, its caller to withdraw it: never both.
        """
        return self._taken.acquire(blocking=False)


class SqliteThread:
    """One database file and the thread that serves it."""

    def __init__(self, path: Path, prepare: Unit[None]) -> None:
        """Store the file's path, and the preparation (migrations) before its first use."""
        self._path = path
        self._prepare = prepare
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writes: asyncio.Queue[Request | None] = asyncio.Queue()
        self._reads: asyncio.Queue[Request | None] = asyncio.Queue()

    def run(self, ready: Callable[[], None]) -> None:
        """Serve in this thread until `stop`; call `ready` once the file is open and prepared.

        Raises the errors of `prepare`, and sqlite3.Error or OSError if the file cannot be opened.
        """
        asyncio.run(self._serve(ready))

    def write(self, request: Request) -> None:
        """Queue a unit that may write; from any thread, after `ready`."""
        self._call(self._writes.put_nowait, request)

    def read(self, request: Request) -> None:
        """Queue a unit that only reads; from any thread, after `ready`."""
        self._call(self._reads.put_nowait, request)

    def stop(self) -> None:
        """End `run` after all queued units are done; from any thread."""
        self._call(self._writes.put_nowait, None)
        for _ in range(READERS):
            self._call(self._reads.put_nowait, None)

    def _call(self, put: Callable[[Request | None], None], request: Request | None) -> None:
        assert self._loop is not None, "the SQLite thread is not ready"
        self._loop.call_soon_threadsafe(put, request)

    # The methods below run in the SQLite thread.

    async def _serve(self, ready: Callable[[], None]) -> None:
        async with AsyncExitStack() as open_connections:
            writer = await open_connections.enter_async_context(_connection(self._path))
            await writer.run(self._prepare)
            # Only now: this pragma changes the file, and a newer version's file must not be
            # changed.
            await writer.execute_fetchall("PRAGMA journal_mode=WAL")
            async with asyncio.TaskGroup() as tasks:
                for _ in range(READERS):
                    reader = await open_connections.enter_async_context(_connection(self._path))
                    await reader.execute("PRAGMA query_only=ON")
                    tasks.create_task(self._serve_reads(reader))
                tasks.create_task(self._serve_writes(writer))
                self._loop = asyncio.get_running_loop()
                ready()

    async def _serve_reads(self, connection: "_Connection") -> None:
        while (request := await self._reads.get()) is not None:
            if request.take():
                unit = partial(_read, unit=request.unit)
                request.answer(await outcome.acapture(connection.run, unit))

    async def _serve_writes(self, connection: "_Connection") -> None:
        while (batch := await self._next_batch()) is not None:
            results = await connection.run(partial(_write_together, batch=batch))
            for request, result in zip(batch, results, strict=True):
                request.answer(result)

    async def _next_batch(self) -> list[Request] | None:
        """Wait for units and return the queued ones, perhaps none; None after `stop`."""
        batch: list[Request] = []
        request = await self._writes.get()
        while request is not None:
            if request.take():
                batch.append(request)
            if len(batch) == BATCH_MAX or self._writes.empty():
                return batch
            request = self._writes.get_nowait()
        if not batch:
            return None
        self._writes.put_nowait(None)  # Stop after this batch.
        return batch


class _Connection(aiosqlite.Connection):
    """A connection that runs whole units on its thread, as aiosqlite runs single statements."""

    async def run(self, unit: Unit[T]) -> T:
        """Run the unit and return its result, or raise its exception."""
        result: T = await self._execute(unit, self._conn)  # type: ignore[no-untyped-call]
        return result


@asynccontextmanager
async def _connection(path: Path) -> AsyncIterator[_Connection]:
    # SQLite gives its side files (-wal, -shm) the permissions of the file itself.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    connect = partial(sqlite3.connect, path, isolation_level=None)
    connection = _Connection(connect, iter_chunk_size=64)
    async with connection:
        for pragma in SESSION:
            await connection.execute_fetchall(pragma)
        yield connection


# The functions below run in the thread of their connection.


def _read(connection: sqlite3.Connection, unit: Unit[T]) -> T:
    """Run a unit in a transaction, so that all its statements see the same state."""
    connection.execute("BEGIN")
    try:
        return unit(connection)
    finally:
        connection.rollback()


def _write_together(
    connection: sqlite3.Connection, batch: Sequence[Request]
) -> list[outcome.Outcome[Any]]:
    """Run the units in one transaction and return their results after the commit."""
    results = outcome.capture(_write, connection, batch)
    if isinstance(results, outcome.Value):
        return results.value
    # If this also fails, the next BEGIN reports it to the next caller.
    outcome.capture(connection.rollback)
    if len(batch) > 1 and _is_full(results.error):
        # SQLite undid them all because the disk is full; there may be room for some.
        return [_write_together(connection, [request])[0] for request in batch]
    return [outcome.Error(results.error) for _ in batch]


def _write(connection: sqlite3.Connection, batch: Sequence[Request]) -> list[outcome.Outcome[Any]]:
    """Run the units and commit; after an error that concerns them all, nothing is written."""
    connection.execute("BEGIN IMMEDIATE")
    # The error of a lone unit undoes the transaction. In a savepoint, SQLite's time is quadratic in
    # the pages that a unit changes: 25 s instead of 0.3 s for an array of 10,000 jobs.
    run = _run_apart if len(batch) > 1 else _run_alone
    results = [run(connection, request.unit) for request in batch]
    connection.execute("COMMIT")
    return results


def _run_alone(connection: sqlite3.Connection, unit: Unit[T]) -> outcome.Outcome[T]:
    """Run the only unit of a transaction."""
    result = outcome.Value(unit(connection))
    assert connection.in_transaction, ENDED
    return result


def _run_apart(connection: sqlite3.Connection, unit: Unit[T]) -> outcome.Outcome[T]:
    """Run a unit; if it fails, undo its changes only."""
    connection.execute("SAVEPOINT unit")
    result = outcome.capture(unit, connection)
    if isinstance(result, outcome.Error):
        if not connection.in_transaction:  # SQLite itself undid the whole batch: the disk is full.
            raise result.error
        connection.execute("ROLLBACK TO unit")
    assert connection.in_transaction, ENDED
    connection.execute("RELEASE unit")
    return result


def _is_full(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
