"""The declarations of tables and their specification say the same.

Spec: specs/simulation-results.md#tables.
"""

import pytest

from node.simulator.tables import COUNTS, METRICS, TABLES, add_row, empty
from tests.test_specs import ROOT, rows_of

SPEC = ROOT / "specs/simulation-results.md"


@pytest.mark.parametrize("name", TABLES)
def test_the_specification_lists_all_columns(name):
    declared = COUNTS if name == "summary" else TABLES[name]
    wanted = [[column.name, column.type, column.about] for column in declared]
    assert rows_of(SPEC, f"table-{name}") == wanted


def test_the_specification_lists_all_metrics():
    named = [row[0].replace("`", "").split(", ") for row in rows_of(SPEC, "metrics")]
    assert [name for names in named for name in names] == [column.name for column in METRICS]


def test_what_is_not_said_of_a_row_is_null():
    table = empty("links")
    assert add_row(table, {"requesters": "india"}) == 0
    assert add_row(table, {"awards": 2}) == 1
    assert table == {
        "requesters": ["india", None], "providers": [None, None], "latency_us": [None, None],
        "awards": [None, 2],
    }  # fmt: skip
