"""Results on disk: what comes back is what was written, and nothing is ever half there.

Spec: specs/simulation-results.md#files.
"""

import csv
import errno

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from node.simulator.metrics import summarise
from node.simulator.results import arrow, concatenate, load, whole, write_csv
from node.simulator.tables import TABLES, empty
from protocol.values.errors import Conflict, InvalidRequest, NotFound, StorageFull, Unavailable
from tests.node.simulator.recorded import CALM, run_of, write_run


def test_what_is_written_comes_back(tmp_path):
    written = write_run(tmp_path / "a" / "run", 3, nodes=40)
    back = load(tmp_path / "a" / "run")
    assert back.manifest == written.manifest
    assert back.manifest["seed"] == 3
    assert back.parameters == {"nodes": 40}
    assert back.names == sorted(TABLES)
    _, tables = run_of(CALM)
    for name in ("jobs", "auctions", "nodes", "links", "events"):
        assert back.columns(name) == tables[name]
    assert back.summary()["digest"] == tables["summary"]["digest"][0]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["run"]


def test_metrics_can_be_computed_from_what_was_written(tmp_path):
    back = write_run(tmp_path / "run")
    assert summarise({name: back.columns(name) for name in back.names}) == summarise(
        run_of(CALM)[1]
    )


def test_equal_runs_give_equal_bytes(tmp_path):
    for name in ("one", "other"):
        write_run(tmp_path / name)
    for name in TABLES:
        one, other = (tmp_path / each / f"{name}.parquet" for each in ("one", "other"))
        assert one.read_bytes() == other.read_bytes()


def test_a_table_is_taken_without_a_copy(tmp_path):
    column = write_run(tmp_path / "run").table("nodes").column("number")
    assert column.chunk(0).to_numpy(zero_copy_only=True)[:2].tolist() == [0, 1]


def test_a_table_without_rows_has_its_types(tmp_path):
    for name, columns in TABLES.items():
        pq.write_table(arrow(name, empty(name)), tmp_path / "x.parquet")
        assert pq.read_table(tmp_path / "x.parquet").schema.names == [each.name for each in columns]
    assert arrow("auctions", empty("auctions")).schema.field("slots").type == pa.list_(pa.int64())


def test_a_run_is_never_overwritten(tmp_path):
    write_run(tmp_path / "run", 1)
    with pytest.raises(Conflict, match="run exists: a run is never overwritten"):
        write_run(tmp_path / "run", 2)
    assert load(tmp_path / "run").manifest["seed"] == 1


def full(*_arguments, **_more):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("tables", [0, 3])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, tables):
    steps = iter([pq.write_table] * tables)

    def write_table(*arguments, **more):
        next(steps, full)(*arguments, **more)

    monkeypatch.setattr(pq, "write_table", write_table)
    with pytest.raises(StorageFull, match="run: the disk is full; nothing was written there"):
        write_run(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    assert list(steps) == []


def test_an_interruption_leaves_nothing_half_written(tmp_path):
    with pytest.raises(KeyboardInterrupt), whole(tmp_path / "x") as partial:
        partial.mkdir()
        (partial / "y").write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_in_nobodys_way(tmp_path):
    (tmp_path / ".run.partial").mkdir()
    (tmp_path / ".run.partial" / "jobs.parquet").write_bytes(b"half")
    write_run(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Unavailable, match="Not a directory; nothing was written there"):
        write_run(tmp_path / "file" / "run")


def test_what_cannot_be_read_is_told_in_one_line(tmp_path):
    with pytest.raises(NotFound, match="it is no run"):
        load(tmp_path)
    write_run(tmp_path / "run")
    (tmp_path / "run" / "jobs.parquet").write_bytes(b"not parquet")
    back = load(tmp_path / "run")
    with pytest.raises(InvalidRequest, match=r"jobs.parquet: ") as found:
        back.table("jobs")
    assert "\n" not in str(found.value)
    with pytest.raises(InvalidRequest, match="run has no table job: auctions, events, jobs"):
        back.table("job")


def test_runs_are_put_together_with_their_parameters(tmp_path):
    more = {"churn.session": "1h"}
    runs = [write_run(tmp_path / "a", 1, nodes=10), write_run(tmp_path / "b", 2, nodes=20, **more)]
    found = concatenate(runs, "jobs")
    single = runs[0].table("jobs").num_rows
    assert found.num_rows == 2 * single
    columns = found.to_pydict()
    assert columns["run.name"] == ["study"] * 2 * single
    assert columns["run.seed"] == [1] * single + [2] * single
    assert columns["run.nodes"] == [10] * single + [20] * single
    assert columns["run.churn.session"] == [None] * single + ["1h"] * single
    assert columns["job"] == runs[0].columns("jobs")["job"] * 2


def test_runs_that_do_not_go_together_are_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="there are no runs"):
        concatenate([], "jobs")
    runs = [write_run(tmp_path / name, nodes=nodes) for name, nodes in (("a", 10), ("b", "many"))]
    with pytest.raises(InvalidRequest, match="these runs do not go together: "):
        concatenate(runs, "jobs")


def test_a_table_is_exported_as_csv(tmp_path, monkeypatch):
    table = write_run(tmp_path / "run").table("auctions")
    write_csv(table, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = table.to_pylist()
    assert len(rows) == len(expected) > 0
    for row, wanted in zip(rows, expected, strict=True):
        assert row["winner"] == ("" if wanted["winner"] is None else str(wanted["winner"]))
        assert [int(each) for each in row["slots"].split()] == wanted["slots"]
    monkeypatch.setattr("pyarrow.csv.write_csv", full)
    with pytest.raises(StorageFull):
        write_csv(table, tmp_path / "y.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "x.csv"]
