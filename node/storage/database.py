"""A SQLite file for trio: atomic units of work.

    async with open_database(path, migrate) as database:

        def pay(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE …")
            connection.execute("INSERT …")

        await database.write(pay)  # Returns after the commit: it is on the disk.

Cancellation removes a unit that has not started and waits for one that runs, so the caller always
knows its result. The asyncio side is node/storage/sqlite_thread.py.
Spec: specs/storage.md#units-of-work.
"""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import outcome
import trio

from node.storage.sqlite_errors import translated
from node.storage.sqlite_thread import Request, SqliteThread, Unit

T = TypeVar("T")


class Database:
    """An open database that runs units of work. `open_database` creates it.

    The callers bound the queue: each waits for its own unit.
    """

    def __init__(self, path: Path, prepare: Unit[None]) -> None:
        self._path = path
        self._sqlite = SqliteThread(path, prepare)
        self._thread = threading.Thread(target=self._serve, name="database")
        self._token = trio.lowlevel.current_trio_token()
        self._waiting: dict[Request, trio.lowlevel.Task] = {}
        self._open = trio.Event()
        self._ended: outcome.Outcome[None] | None = None

    async def start(self) -> None:
        """Open the file and wait until it is usable; raise the error that prevents it."""
        self._thread.start()
        await self._open.wait()
        if self._ended is not None:
            await trio.to_thread.run_sync(self._thread.join)
            with translated(self._path):
                self._ended.unwrap()

    async def close(self) -> None:
        """Wait for the queued units and close the file."""
        if self._ended is None:
            self._sqlite.stop()
        await trio.to_thread.run_sync(self._thread.join)
        assert self._ended is not None, "a thread that ended has said so"
        self._ended.unwrap()

    @property
    def is_busy(self) -> bool:
        """Whether a caller waits for a unit."""
        return bool(self._waiting)

    async def write(self, unit: Unit[T]) -> T:
        """Run the unit in a transaction and return its result after the commit.

        If the unit raises an exception, nothing of it is written, and the exception is raised here.
        Raises StorageFull or DatabaseUnusable. Units that share a commit do not affect each other.
        """
        return await self._submit(unit, self._sqlite.write)

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit that only reads; all its statements see one state. Raises as `write`."""
        return await self._submit(unit, self._sqlite.read)

    async def _submit(self, unit: Unit[T], queue: Callable[[Request], None]) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        assert self._open.is_set(), f"{self._path} is not open yet"
        assert self._ended is None, f"{self._path} is closed"

        def answer(result: outcome.Outcome[T]) -> None:
            self._token.run_sync_soon(self._settle, request, result)

        def withdraw(_: object) -> trio.lowlevel.Abort:
            if not request.take():
                return trio.lowlevel.Abort.FAILED  # It runs: its result will arrive.
            del self._waiting[request]
            return trio.lowlevel.Abort.SUCCEEDED

        request = Request(unit, answer)
        self._waiting[request] = trio.lowlevel.current_task()
        queue(request)
        with translated(self._path):
            result: T = await trio.lowlevel.wait_task_rescheduled(withdraw)
        return result

    def _settle(self, request: Request, result: outcome.Outcome[Any]) -> None:
        trio.lowlevel.reschedule(self._waiting.pop(request), result)

    def _serve(self) -> None:
        """Run it: the body of its thread."""
        result = outcome.capture(self._sqlite.run, self._tell_open)
        self._token.run_sync_soon(self._end, result)

    def _tell_open(self) -> None:
        self._token.run_sync_soon(self._open.set)

    def _end(self, result: outcome.Outcome[None]) -> None:
        """Wake all waiting callers after a bug in the thread."""
        self._ended = result
        self._open.set()
        for request in tuple(self._waiting):
            self._settle(request, outcome.Error(RuntimeError("the database thread ended")))


@asynccontextmanager
async def open_database(path: Path, prepare: Unit[None]) -> AsyncIterator[Database]:
    """Open the file, created with mode 0600 if missing; `prepare` runs first, in no transaction.

    Raises the errors of `prepare`, StorageFull or DatabaseUnusable. Leaving waits for the running
    units; then the file is closed and the threads have ended.
    """
    database = Database(path, prepare)
    # Shielded: a thread cannot be cancelled; SQLite's busy_timeout bounds the wait.
    with trio.CancelScope(shield=True):
        await database.start()
    try:
        yield database
    finally:
        with trio.CancelScope(shield=True):
            await database.close()
