"""What SQLite raises becomes one line that says what to do; our own mistakes stay as they are.

Spec: specs/storage.md#errors.
"""

import errno
import sqlite3
from pathlib import Path

import pytest

from node.storage.sqlite_errors import DatabaseUnusable, translated
from protocol.values.errors import DaemonUnavailable, StorageFull

PATH = Path("node.db")


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("as SQLite says")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    "error,expected,advice",
    [
        (sqlite_error(sqlite3.SQLITE_FULL), StorageFull, "free some space"),
        (OSError(errno.ENOSPC, "No space left"), StorageFull, "free some space"),
        (sqlite_error(sqlite3.SQLITE_BUSY), DatabaseUnusable, "end it"),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), DatabaseUnusable, "end it"),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), DatabaseUnusable, "move it away"),
        (sqlite_error(sqlite3.SQLITE_NOTADB), DatabaseUnusable, "move it away"),
        (sqlite_error(sqlite3.SQLITE_READONLY), DatabaseUnusable, "permissions"),
        (PermissionError(errno.EACCES, "Permission denied"), DatabaseUnusable, "permissions"),
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), DatabaseUnusable, "check the disk"),
    ],
)
def test_fault_of_the_world_is_told(error, expected, advice: str) -> None:
    with pytest.raises(expected, match=advice) as caught, translated(PATH):
        raise error
    assert "node.db" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        sqlite_error(sqlite3.SQLITE_ERROR),
        sqlite_error(sqlite3.SQLITE_CONSTRAINT_CHECK),
        sqlite3.ProgrammingError("made by Python's module, without a code"),
        ValueError("not SQLite's"),
    ],
)
def test_bug_of_ours_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translated(PATH):
        raise error
    assert caught.value is error


def test_callers_may_treat_it_as_a_daemon_that_cannot_run() -> None:
    assert issubclass(DatabaseUnusable, DaemonUnavailable)
    assert DatabaseUnusable.code == "database-unusable"
