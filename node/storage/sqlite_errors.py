"""Translates SQLite's errors: what the disk or another program did, and what to do about it.

An error that is not in the table (a wrong statement, a violated constraint) is a bug of the program
and passes through unchanged.
Spec: specs/storage.md#errors.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from protocol.values.errors import DaemonUnavailable, NodeError, StorageFull


class DatabaseUnusable(DaemonUnavailable):
    """The database file cannot be used as it is, so the node cannot run."""

    code = "database-unusable"


DAMAGED: Final = (
    "{path} is damaged ({error}): move it away and put a copy of it in its place;"
    " without a copy the node starts with no jobs and receipts"
)
HELD: Final = "another program holds {path} ({error}): end it, then start the node again"
FORBIDDEN: Final = "cannot open {path} for writing ({error}): check its owner and permissions"
BROKEN: Final = "cannot read or write {path} ({error}): check the disk and the system's log"
FULL: Final = "no room on the disk for {path} ({error}): free some space, then try again"

REASONS: Final = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_BUSY: HELD,
    sqlite3.SQLITE_LOCKED: HELD,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_CANTOPEN: FORBIDDEN,
    sqlite3.SQLITE_PERM: FORBIDDEN,
    sqlite3.SQLITE_READONLY: FORBIDDEN,
    sqlite3.SQLITE_IOERR: BROKEN,
}
"""The error texts by SQLite's primary result code."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise StorageFull or DatabaseUnusable in place of errors of SQLite or the system."""
    try:
        yield
    except sqlite3.Error as error:
        # Errors of Python's own module have no code: they are wrong uses of it.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)
        reason = REASONS.get(code & 0xFF)
        if reason is None:
            raise
        raise _ours(reason, path, error) from error
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise _ours(FULL if full else FORBIDDEN, path, error) from error


def _ours(reason: str, path: Path, error: Exception) -> NodeError:
    told = error.strerror if isinstance(error, OSError) else error
    text = reason.format(path=path, error=told)
    return StorageFull(text) if reason is FULL else DatabaseUnusable(text)
