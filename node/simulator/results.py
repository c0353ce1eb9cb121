"""The results of a run: its tables and its manifest, in memory or as a folder on disk.

On disk each table is a Parquet file. A folder is there as a whole or not at all. The same run gives
the same bytes, but for the manifest. Spec: specs/simulation-results.md#files.
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
from node.simulator.manifest import manifest_in, manifest_of
from node.simulator.tables import FLAG, INT, INTS, REAL, TABLES, TEXT
from protocol.values.errors import InvalidRequest, NodeError, StorageFull, Unavailable

__all__ = ["Results", "concatenate", "load", "manifest_in", "manifest_of", "write", "write_csv"]

TYPES: Final = {
    INT: pa.int64(), REAL: pa.float64(), TEXT: pa.string(), FLAG: pa.bool_(),
    INTS: pa.list_(pa.int64()),
}  # fmt: skip
SUFFIX: Final = ".parquet"
PARTIAL, OLD = ".partial", ".old"
"""What names end with while something is written, or replaced."""
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
RUN: Final = "run."
"""What the names of columns begin with that concern the whole run."""
NO_PARAMETERS: Final = frozenset({"name", "seed", "repetitions", "events"})
"""Keys of a scenario that do not change what a run is about."""


class Results:
    """The results of one run."""

    def __init__(self, manifest: dict[str, Any], tables: Mapping[str, Any]) -> None:
        """Take its manifest, and its tables: columns as lists, or pyarrow tables."""
        self.manifest = manifest
        self._tables = tables

    @property
    def names(self) -> list[str]:
        """The names of its tables."""
        return sorted(self._tables)

    @property
    def parameters(self) -> dict[str, Any]:
        """What its scenario says, by dotted key: where it stands in a sweep."""
        values = self.manifest["scenario"]
        return {key: values[key] for key in values if key not in NO_PARAMETERS}

    @property
    def summary(self) -> dict[str, Any]:
        """The counts and metrics of the run."""
        return {name: values[0] for name, values in self.columns("summary").items()}

    def table(self, name: str) -> Any:
        """Return a pyarrow.Table; pandas and polars take it without a copy where types allow.

        InvalidRequest if there is no such table, or it cannot be read.
        """
        if name not in self._tables:
            raise InvalidRequest(f"there is no table {name}: {', '.join(self.names)}")
        found = self._tables[name]
        return arrow(name, found) if isinstance(found, dict) else found

    def columns(self, name: str) -> dict[str, list[Any]]:
        """Return a table as metrics read it; errors as `table`."""
        found: dict[str, list[Any]] = self.table(name).to_pydict()
        return found


class _Folder(Mapping[str, Any]):
    """The tables in a folder, read when they are needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> Any:
        path = self._folder / f"{name}{SUFFIX}"
        if not path.is_file():
            raise KeyError(name)
        try:
            return pq.read_table(path, memory_map=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise InvalidRequest(f"{path}: {str(error).splitlines()[0]}") from None

    def __contains__(self, name: object) -> bool:
        return (self._folder / f"{name}{SUFFIX}").is_file()

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self._folder.glob(f"*{SUFFIX}")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def load(folder: Path) -> Results:
    """Open the results in a folder. NotFound if there are none, InvalidRequest if unreadable."""
    return Results(manifests.read(folder), _Folder(folder))


def write(results: Results, folder: Path) -> None:
    """Write results into a folder, all or nothing; they replace those that are there.

    StorageFull and Unavailable as `whole`.
    """
    with whole(folder) as partial:
        partial.mkdir(parents=True)
        for name in results.names:
            with (partial / f"{name}{SUFFIX}").open("wb") as file:
                pq.write_table(results.table(name), file, compression="zstd")
        (partial / manifests.FILE).write_bytes(manifests.encode(results.manifest))


def arrow(name: str, columns: Mapping[str, Sequence[Any]]) -> Any:
    """Return a table as pyarrow.Table, with the types of its declaration."""
    declared = TABLES[name]
    schema = pa.schema([(column.name, TYPES[column.type]) for column in declared])
    return pa.table({column.name: columns[column.name] for column in declared}, schema=schema)


def concatenate(runs: Sequence[Results], name: str) -> Any:
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

    StorageFull if the disk is full; Unavailable if it cannot be written for another reason. Then
    what was there before is there still.
    """
    partial, old = (path.with_name(f".{path.name}{end}") for end in (PARTIAL, OLD))
    try:
        _remove(partial)  # Of a run that was killed.
        yield partial
        if path.is_dir():  # Only an empty folder would be replaced by renaming.
            _remove(old)
            path.rename(old)
        partial.rename(path)
    except OSError as error:
        raise _unwritten(path, error) from None
    finally:
        _remove(partial)
        if old.exists() and not path.exists():
            old.rename(path)
        _remove(old)


def _unwritten(path: Path, error: OSError) -> NodeError:
    if error.errno in NO_SPACE:
        return StorageFull(f"{path}: the disk is full; nothing was written there")
    return Unavailable(f"{path}: {error.strerror or error}; nothing was written there")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
