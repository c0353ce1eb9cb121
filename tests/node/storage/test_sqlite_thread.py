"""The SQLite thread commits together what waits together, in order, and stops when all is done.

Spec: specs/storage.md#the-thread-of-sqlite.
"""

import sqlite3
import threading
from pathlib import Path

import pytest

from node.storage.sqlite_thread import BATCH_MAX, Request, SqliteThread


def prepare(connection) -> None:
    connection.execute("CREATE TABLE t (k INTEGER)")


class Session:
    """The SQLite thread, and what it answered."""

    def __init__(self, path: Path) -> None:
        self.sqlite = SqliteThread(path, prepare)
        self.ready = threading.Event()
        self.answers = []
        self.thread = threading.Thread(target=self.sqlite.run, args=(self.ready.set,))
        self.thread.start()
        assert self.ready.wait(10)

    def request(self, unit) -> Request:
        return Request(unit, self.answers.append)

    def end(self) -> list:
        self.sqlite.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()
        return [answer.unwrap() for answer in self.answers]


def insert(number: int):
    def unit(connection) -> int:
        connection.execute("INSERT INTO t VALUES (?)", (number,))
        return number

    return unit


def test_units_that_wait_share_a_commit(tmp_path: Path) -> None:
    session = Session(tmp_path / "t.db")
    statements: list[str] = []
    gate = threading.Event()

    def first(connection) -> str:
        connection.set_trace_callback(statements.append)
        assert gate.wait(10)
        return "first"

    session.sqlite.write(session.request(first))
    for number in range(BATCH_MAX + 1):
        session.sqlite.write(session.request(insert(number)))
    gate.set()
    assert session.end() == ["first", *range(BATCH_MAX + 1)]
    # The gate's own, or the gate's with a few; then full ones: never one for each unit.
    assert 2 <= statements.count("COMMIT") <= 3


def test_request_is_taken_once(tmp_path: Path) -> None:
    session = Session(tmp_path / "t.db")
    withdrawn = session.request(insert(1))
    assert withdrawn.take()
    assert not withdrawn.take()
    session.sqlite.write(withdrawn)
    session.sqlite.read(withdrawn)
    session.sqlite.write(session.request(insert(2)))
    assert session.end() == [2]


def test_everything_queued_before_the_stop_is_done(tmp_path: Path) -> None:
    session = Session(tmp_path / "t.db")
    for number in range(200):
        session.sqlite.write(session.request(insert(number)))
    assert session.end() == list(range(200))
    database = sqlite3.connect(tmp_path / "t.db")
    assert database.execute("SELECT count(*) FROM t").fetchone() == (200,)
    database.close()
    assert not (tmp_path / "t.db-wal").exists()  # Its content is in the file itself.


def test_reader_cannot_write(tmp_path: Path) -> None:
    session = Session(tmp_path / "t.db")
    session.sqlite.read(session.request(insert(1)))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        session.end()


def test_commits_wait_for_the_disk(tmp_path: Path) -> None:
    session = Session(tmp_path / "t.db")

    def pragmas(connection) -> list:
        names = ("synchronous", "journal_mode", "foreign_keys")
        return [connection.execute(f"PRAGMA {n}").fetchone()[0] for n in names]

    session.sqlite.write(session.request(pragmas))
    assert session.end() == [[2, "wal", 1]]  # 2 is FULL.


def test_link_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        SqliteThread(tmp_path / "t.db", prepare).run(lambda: None)
    assert not (tmp_path / "elsewhere").exists()
