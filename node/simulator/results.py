"""Runs on disk: a folder with a Parquet file for each table, and a manifest.

A folder is there as a whole or not at all. The same run gives the same bytes, but for the manifest.
Spec: specs/simulation-results.md#files.
"""

import errno
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from node.simulator import manifest as manifests
from node.simulator.manifest import RunDone, manifest_of
from node.simulator.tables import FLAG, INT, INTS, REAL, TABLES, TEXT, Readable
from protocol.values.errors import Conflict, InvalidRequest, NodeError, StorageFull, Unavailable

TYPES: Final = {
    INT: pa.int64(), REAL: pa.float64(), TEXT: pa.string(), FLAG: pa.bool_(),
    INTS: pa.list_(pa.int64()),
}  # fmt: skip
SUFFIX: Final = ".parquet"
PARTIAL: Final = ".partial"
"""What a name ends with while it is written."""
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
RUN: Final = "run."
"""What the names of columns begin with that concern the whole run."""


class RunResults:
    """One run on disk."""

    def __init__(self, folder: Path) -> None:
        """Open a run. NotFound if there is none, InvalidRequest if it is of another version."""
        self.folder = folder
        self.manifest: dict[str, Any] = manifests.read(folder)

    @property
    def names(self) -> list[str]:
        """The names of its tables."""
        return sorted(path.stem for path in self.folder.glob(f"*{SUFFIX}"))

    @property
    def parameters(self) -> dict[str, Any]:
        """Where it stands on each axis of its sweep."""
        return dict(self.manifest["parameters"])

    def table(self, name: str) -> Any:
        """Return a pyarrow.Table; pandas and polars take it without a copy where types allow.

        InvalidRequest if there is no such table, or it cannot be read.
        """
        path = self.folder / f"{name}{SUFFIX}"
        if not path.is_file():
            raise InvalidRequest(f"{self.folder} has no table {name}: {', '.join(self.names)}")
        try:
            return pq.read_table(path, memory_map=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise InvalidRequest(f"{path}: {str(error).splitlines()[0]}") from None

    def columns(self, name: str) -> dict[str, list[Any]]:
        """Return a table as metrics read it; errors as `table`."""
        found: dict[str, list[Any]] = self.table(name).to_pydict()
        return found

    def summary(self) -> dict[str, Any]:
        """Return the counts and metrics of the run; errors as `table`."""
        return {name: values[0] for name, values in self.columns("summary").items()}


def load(folder: Path) -> RunResults:
    """Open a run; errors as `RunResults`."""
    return RunResults(folder)


def write(folder: Path, tables: Readable, run: RunDone) -> RunResults:
    """Write a run into a folder that does not exist, all of it or nothing, and open it.

    Conflict if the folder exists; StorageFull and Unavailable as `whole`.
    """
    if folder.exists():
        raise Conflict(f"{folder} exists: a run is never overwritten")
    with whole(folder) as partial:
        partial.mkdir(parents=True)
        for name in tables:
            with (partial / f"{name}{SUFFIX}").open("wb") as file:
                pq.write_table(arrow(name, tables[name]), file, compression="zstd")
        (partial / manifests.FILE).write_bytes(manifests.encode(manifest_of(run)))
    return RunResults(folder)


def arrow(name: str, columns: Mapping[str, Sequence[Any]]) -> Any:
    """Return a table as pyarrow.Table, with the types of its declaration."""
    declared = TABLES[name]
    schema = pa.schema([(column.name, TYPES[column.type]) for column in declared])
    return pa.table({column.name: columns[column.name] for column in declared}, schema=schema)


def concatenate(runs: Sequence[RunResults], name: str) -> Any:
    """Return the same table of many runs as one pyarrow.Table.

    The columns `run.name`, `run.seed` and one `run.` for each parameter say whose each row is; a
    run whose scenario does not say it has null there. InvalidRequest if there are no runs, or a
    parameter is a number in one and a text in another.
    """
    if not runs:
        raise InvalidRequest("there are no runs to put together")
    parts = []
    for run in runs:
        table = run.table(name)
        said = {"name": run.manifest["name"], "seed": run.manifest["seed"], **run.parameters}
        for place, (key, value) in enumerate(said.items()):
            table = table.add_column(place, RUN + key, pa.array([value] * table.num_rows))
        parts.append(table)
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidRequest(f"these runs do not go together: {error}") from None


def write_csv(table: Any, path: Path) -> None:
    """Write a pyarrow.Table as CSV, with a header; lists become numbers with spaces between.

    StorageFull and Unavailable as `whole`.
    """
    for place, column in enumerate(table.schema):
        if pa.types.is_list(column.type):
            texts = [" ".join(map(str, each)) for each in table.column(place).to_pylist()]
            table = table.set_column(place, column.name, pa.array(texts, pa.string()))
    with whole(path) as partial, partial.open("wb") as file:
        pa_csv.write_csv(table, file)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield where to write what is to be at `path`: it comes there as a whole, or not at all.

    StorageFull if the disk is full; Unavailable if it cannot be written for another reason.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        _remove(partial)  # Of a run that was killed.
        yield partial
        partial.rename(path)
    except OSError as error:
        raise _unwritten(path, error) from None
    finally:
        _remove(partial)


def _unwritten(path: Path, error: OSError) -> NodeError:
    if error.errno in NO_SPACE:
        return StorageFull(f"{path}: the disk is full; nothing was written there")
    return Unavailable(f"{path}: {error.strerror or error}; nothing was written there")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():
        path.unlink()
