"""A unit of work is wholly done or leaves nothing, whatever happens to it or to the process.

Spec: specs/storage.md#units-of-work.
"""

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from node.storage import sqlite_thread
from node.storage.database import Database, open_database
from node.storage.sqlite_errors import DatabaseUnusable
from protocol.values.errors import StorageFull

ROOT = Path(__file__).parents[3]


def prepare(connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS t (k TEXT, v INTEGER)")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "t.db", prepare) as database:
        yield database


def insert(key: str):
    def unit(connection) -> str:
        connection.execute("INSERT INTO t VALUES (?, 1)", (key,))
        return key

    return unit


async def keys(database: Database) -> list[str]:
    rows = await database.read(lambda c: c.execute("SELECT k FROM t ORDER BY rowid").fetchall())
    return [row[0] for row in rows]


def expect_threads_end(before: set[threading.Thread]) -> None:
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith("Trio"):  # trio keeps its own for later.
            thread.join(5)  # aiosqlite's say that they are done an instant before they are.
            assert not thread.is_alive()


class Gate:
    """A unit of work that runs until it is let go."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.open = threading.Event()

    def unit(self, connection) -> str:
        connection.execute("INSERT INTO t VALUES ('gate', 1)")
        self.running.set()
        assert self.open.wait(10)
        return "gate"

    async def wait_running(self) -> None:
        assert await trio.to_thread.run_sync(self.running.wait, 10)


async def test_write_is_seen_by_reads_and_after_a_restart(tmp_path: Path) -> None:
    async with open_database(tmp_path / "t.db", prepare) as database:
        assert await database.write(insert("a")) == "a"
        assert await keys(database) == ["a"]
    async with open_database(tmp_path / "t.db", prepare) as database:
        assert await keys(database) == ["a"]


async def test_failing_unit_leaves_nothing_and_harms_no_other(database: Database) -> None:
    def fails(connection) -> None:
        insert("bad")(connection)
        raise ValueError("no")

    async def expect_failure() -> None:
        with pytest.raises(ValueError, match="no"):
            await database.write(fails)

    gate = Gate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, gate.unit)
        await gate.wait_running()
        for n in range(3):  # All of these share one commit.
            nursery.start_soon(expect_failure)
            nursery.start_soon(database.write, insert(f"good {n}"))
        await trio.testing.wait_all_tasks_blocked()
        gate.open.set()
    assert sorted(await keys(database)) == ["gate", "good 0", "good 1", "good 2"]


async def test_it_is_busy_as_long_as_a_caller_waits(database: Database) -> None:
    assert not database.is_busy
    gate = Gate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, gate.unit)
        await gate.wait_running()
        assert database.is_busy
        gate.open.set()
    assert not database.is_busy


async def test_waiting_unit_is_withdrawn_when_cancelled(database: Database) -> None:
    gate = Gate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, gate.unit)
        await gate.wait_running()
        async with trio.open_nursery() as cancelled:
            cancelled.start_soon(database.write, insert("ghost"))
            await trio.testing.wait_all_tasks_blocked()
            cancelled.cancel_scope.cancel()
        assert not gate.open.is_set()  # The caller did not wait for the unit before it.
        gate.open.set()
    await database.write(insert("last"))
    assert await keys(database) == ["gate", "last"]


async def test_running_unit_is_waited_for_when_cancelled(database: Database) -> None:
    gate = Gate()
    results = []
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                results.append(await database.write(gate.unit))

            nursery.start_soon(write)
            await gate.wait_running()
            scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            gate.open.set()
    assert results == ["gate"]
    assert await keys(database) == ["gate"]


async def test_cancelled_caller_does_not_even_ask(database: Database) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await database.write(insert("ghost"))
    assert scope.cancelled_caught
    assert await keys(database) == []


async def test_no_thread_is_left_by_a_cancelled_owner(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with trio.CancelScope() as scope:
        async with open_database(tmp_path / "t.db", prepare):
            scope.cancel()
            await trio.sleep_forever()
    expect_threads_end(before)


async def test_reads_of_one_unit_see_one_state(database: Database) -> None:
    def twice(connection) -> tuple[int, int]:
        first = connection.execute("SELECT count(*) FROM t").fetchall()
        seen.set()
        assert written.wait(10)
        second = connection.execute("SELECT count(*) FROM t").fetchall()
        return first[0][0], second[0][0]

    seen, written = threading.Event(), threading.Event()
    counts = []
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            counts.append(await database.read(twice))

        nursery.start_soon(read)
        assert await trio.to_thread.run_sync(seen.wait, 10)
        await database.write(insert("between"))
        written.set()
    assert counts == [(0, 0)]


async def test_unit_that_ends_its_transaction_is_a_bug(database: Database) -> None:
    def commits(connection) -> None:
        connection.execute("COMMIT")

    with pytest.raises(AssertionError, match="unit of work"):
        await database.write(commits)
    await database.write(insert("after"))
    assert await keys(database) == ["after"]


async def test_full_disk_is_told_and_loses_nothing(database: Database) -> None:
    def limit(connection, pages: int = 8) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    def great(connection) -> None:
        connection.execute("INSERT INTO t VALUES (?, 1)", ("x" * 100_000,))

    async def expect_full() -> None:
        with pytest.raises(StorageFull, match=r"no room on the disk .*t\.db .*free some space"):
            await database.write(great)

    await database.write(insert("before"))
    await database.write(limit)
    gate = Gate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, gate.unit)
        await gate.wait_running()
        nursery.start_soon(expect_full)  # Together with a unit for which there is room.
        nursery.start_soon(database.write, insert("small"))
        await trio.testing.wait_all_tasks_blocked()
        gate.open.set()
    await database.write(lambda connection: limit(connection, 1_000))
    await database.write(great)
    assert sorted(key[:6] for key in await keys(database)) == ["before", "gate", "small", "xxxxxx"]


async def test_batch_that_sqlite_undid_by_itself_fails_as_a_whole(database: Database) -> None:
    def undone(connection) -> None:
        connection.execute("ROLLBACK")  # As SQLite does when the disk fails it midway.
        raise sqlite3.OperationalError("undone")

    async def expect_failure(unit) -> None:
        with pytest.raises(sqlite3.OperationalError, match="undone"):
            await database.write(unit)

    gate = Gate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, gate.unit)
        await gate.wait_running()
        for unit in (undone, insert("a"), insert("b")):
            nursery.start_soon(expect_failure, unit)
        await trio.testing.wait_all_tasks_blocked()
        gate.open.set()
    assert await keys(database) == ["gate"]


async def test_whole_batch_is_told_when_its_commit_fails(database: Database) -> None:
    def impatient(connection) -> None:
        connection.execute("PRAGMA busy_timeout=10")

    async def expect_held() -> None:
        with pytest.raises(DatabaseUnusable, match="another program holds"):
            await database.write(insert("lost"))

    await database.write(impatient)
    other = sqlite3.connect(database._path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_held)
        nursery.start_soon(expect_held)
    other.execute("ROLLBACK")
    other.close()
    await database.write(insert("kept"))
    assert await keys(database) == ["kept"]


async def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    path.write_text("not a database, but somebody's letter" * 50)
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable, match=r"t\.db is damaged .*move it away"):
        async with open_database(path, prepare):
            raise AssertionError("opened")
    assert path.read_bytes() == before


async def test_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="cannot open"):
        async with open_database(tmp_path / "none" / "t.db", prepare):
            raise AssertionError("opened")


async def test_failure_of_the_preparation_is_raised_and_leaves_no_thread(tmp_path: Path) -> None:
    def fails(_connection) -> None:
        raise DatabaseUnusable("too new")

    before = set(threading.enumerate())
    with pytest.raises(DatabaseUnusable, match="too new"):
        async with open_database(tmp_path / "t.db", fails):
            raise AssertionError("opened")
    expect_threads_end(before)


async def test_only_the_owner_can_read_the_files(database: Database) -> None:
    await database.write(insert("secret"))
    folder = database._path.parent
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {"t.db": 0o600, "t.db-wal": 0o600, "t.db-shm": 0o600}


async def test_bug_in_the_sqlite_thread_wakes_all_who_wait(tmp_path: Path, monkeypatch) -> None:
    async def expect_end() -> None:
        with pytest.raises(RuntimeError, match="database thread ended"):
            await database.write(insert("lost"))

    async def broken(_self) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sqlite_thread.SqliteThread, "_next_batch", broken)
    with pytest.raises(ExceptionGroup) as caught:
        async with open_database(tmp_path / "t.db", prepare) as database:
            database._sqlite.write = lambda _request: None
            await expect_end()
    assert caught.group_contains(ZeroDivisionError)


WRITER = """
import os, sys, trio
from pathlib import Path
from node.storage.database import open_database

def prepare(c):
    c.execute("CREATE TABLE IF NOT EXISTS t (k TEXT, v INTEGER)")

async def write(database, k):
    n = 0
    while True:
        key = f"{os.getpid()}-{k}-{n}"
        n += 1
        def unit(c, key=key):
            c.execute("INSERT INTO t VALUES (?, 1)", (key,))
            c.execute("INSERT INTO t VALUES (?, -1)", (key,))
        await database.write(unit)
        os.write(1, f"{key}\\n".encode())

async def main():
    async with open_database(Path(sys.argv[1]), prepare) as database:
        async with trio.open_nursery() as nursery:
            for k in range(8):
                nursery.start_soon(write, database, k)

trio.run(main)
"""


@pytest.mark.slow
def test_kill_loses_no_unit_that_was_acknowledged_and_tears_none(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    acknowledged: set[str] = set()
    for wanted in (1, 150, 333):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            acknowledged.update(process.stdout.readline().strip() for _ in range(wanted))
            process.send_signal(signal.SIGKILL)
            *whole, _torn = process.stdout.read().split("\n")
            acknowledged.update(whole)
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    units = dict(database.execute("SELECT k, count(*) || '/' || sum(v) FROM t GROUP BY k"))
    database.close()
    assert len(acknowledged) >= 484
    assert acknowledged <= units.keys()
    assert set(units.values()) == {"2/0"}
