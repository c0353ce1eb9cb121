"""An older file is upgraded step by step and keeps its content; a newer one is left alone.

Spec: specs/storage.md#schema.
"""

import sqlite3
from pathlib import Path

import pytest

from node.storage import migrations
from node.storage.database import open_database
from node.storage.journal import Commit, NewMessage, Totals, open_journal
from node.storage.migrations import FIRST, MIGRATIONS, migrate, schema_version
from node.storage.sqlite_errors import DatabaseUnusable
from protocol.values.ids import JobId, PeerId

SECOND = ("CREATE TABLE extra (k INTEGER) STRICT", "ALTER TABLE facts ADD COLUMN at_ms INTEGER")


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    path = tmp_path / "node.db"
    run_sql(path, Path(__file__).with_name("version_1.sql").read_text())
    return path


def run_sql(path: Path, script: str) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript(script)
    database.close()


def content(path: Path) -> bytes:
    return path.read_bytes()


def schema(path: Path) -> list[str]:
    database = sqlite3.connect(path)
    rows = database.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name")
    texts = [" ".join(row[0].split()) for row in rows]
    database.close()
    return texts


async def version_of(path: Path, steps) -> int:
    def prepare(connection: sqlite3.Connection) -> None:
        migrate(connection, steps)

    async with open_database(path, prepare) as database:
        return await database.read(schema_version)


async def test_file_of_version_1_keeps_its_content(version_1: Path) -> None:
    async with open_journal(version_1) as journal:
        assert [row.data for row in await journal.jobs()] == [b"\xaa"]
        assert [row.kind for row in await journal.events(JobId(b"\1\2"))] == ["submitted"]
        assert [row.state for row in await journal.snapshots("requester-lease")] == ["Leased"]
        assert await journal.totals() == Totals(earned=2, spent=0)
        assert [row.row for row in await journal.outbox()] == [7]
        assert await journal.known_blobs() == ((b"\7", 8, "input"),)
        assert await journal.fact("sequence") == b"\t"
        new = Commit(outbox=(NewMessage(PeerId("ada"), b"x", 9),))
        assert (await journal.commit(new)).outbox_rows == (8,)


async def test_upgraded_file_has_the_schema_of_a_new_one(version_1: Path, tmp_path: Path) -> None:
    for path in (version_1, tmp_path / "new.db"):
        async with open_journal(path):
            pass
    assert schema(version_1) == schema(tmp_path / "new.db")


async def test_steps_are_taken_in_order_from_where_the_file_is(version_1: Path) -> None:
    assert await version_of(version_1, (FIRST, SECOND)) == 2
    assert any(text.startswith("CREATE TABLE extra") for text in schema(version_1))
    assert await version_of(version_1, (FIRST, SECOND)) == 2


async def test_step_that_fails_leaves_the_version_before_it(version_1: Path) -> None:
    before = schema(version_1)
    with pytest.raises(sqlite3.OperationalError, match="syntax"):
        await version_of(version_1, (FIRST, (*SECOND, "NO SQL")))
    assert schema(version_1) == before
    assert await version_of(version_1, (FIRST,)) == 1


async def test_newer_file_is_refused_and_not_changed(version_1: Path) -> None:
    run_sql(version_1, f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    before = content(version_1)
    with pytest.raises(DatabaseUnusable, match=r"node\.db .*newer version .*install") as caught:
        async with open_journal(version_1):
            raise AssertionError("opened")
    assert "\n" not in str(caught.value)
    assert content(version_1) == before


async def test_old_sqlite_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(migrations, "SQLITE_MIN", (99, 0, 0))
    with pytest.raises(DatabaseUnusable, match="another Python"):
        async with open_journal(tmp_path / "node.db"):
            raise AssertionError("opened")
