"""Every statement compiles, and finds its rows by an index.

Spec: specs/storage.md#schema.
"""

import sqlite3

import pytest

from node.storage import statements
from node.storage.migrations import MIGRATIONS

STATEMENTS = {name: text for name, text in vars(statements).items() if name.isupper()}
WHOLE_TABLES = {"OUTBOX", "BLOBS", "TOTALS", "ANSWERS"}
"""These walk along a primary key, from one end."""


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_uses_an_index(name: str) -> None:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.create_function("job_key", 1, bytes)
    for statement in (one for migration in MIGRATIONS for one in migration):
        database.execute(statement)
    text = STATEMENTS[name]
    values = (None,) * (4 if "?4" in text else text.count("?"))
    steps = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    database.close()
    assert not any("B-TREE" in step for step in steps), steps
    scans = [step for step in steps if step.startswith("SCAN") and "INDEX" not in step]
    assert bool(scans) == (name in WHOLE_TABLES), steps
