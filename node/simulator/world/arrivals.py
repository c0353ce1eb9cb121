"""Jobs from a file, each with its time and what it needs.

Spec: specs/simulation-world.md#demand.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final

from node.config.convert import nearest
from node.simulator.world.demand import Arrival, JobModel, exact_spec
from node.simulator.world.quantities import Duration, Meaning
from protocol.values.errors import InvalidRequest
from protocol.wire.job import QUEUE_MS_MAX, TIMEOUT_MS_MAX

FILES_KEPT_MAX: Final = 4
NEEDED: Final = ("at_ms", "work_ms")
BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "at_ms": (0, 2**53), "work_ms": (1, TIMEOUT_MS_MAX), "requester": (0, 2**31),
    "cpus": (1, 4096), "memory_mib": (16, 2**30), "gpus": (0, 64), "image_mib": (0, 2**23),
    "nodes": (1, 64), "queue_ms": (0, QUEUE_MS_MAX),
}  # fmt: skip
"""What a job may say in numbers, and between which bounds."""
TEXTS: Final = ("gpu_class",)
JSON_LINES: Final = ".jsonl"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalTrace(JobModel):
    """Jobs from a file: CSV with a head, or JSON lines; what a line does not say is as here."""

    file: Annotated[
        Path, Meaning("the file, in the order of time: at_ms, work_ms, and what else a job needs")
    ]

    def arrivals(self, horizon_ms: int, requesters: int, seed: int) -> Iterator[Arrival]:
        for place, (line, row) in enumerate(_rows(self.file)):
            if row["at_ms"] >= horizon_ms:
                return
            requester = row.get("requester", place % requesters)
            if requester >= requesters:
                raise _wrong(self.file, line, f"requester {requester} of {requesters}: from 0")
            names = {"work_ms": "work", "queue_ms": "queue"}
            said = {names.get(name, name): value for name, value in row.items()}
            own = {name: said[name] for name in said if name not in {"at_ms", "requester"}}
            job = replace(self, **own)
            yield Arrival(row["at_ms"], requester, exact_spec(job, Duration(row["work_ms"])))


def _rows(file: Path) -> list[tuple[int, Row]]:
    try:
        modified_ns = file.stat().st_mtime_ns
        return _read(file, modified_ns)
    except OSError as error:
        raise InvalidRequest(f"demand: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"demand: {file}: it is not UTF-8") from None


@lru_cache(FILES_KEPT_MAX)
def _read(file: Path, modified_ns: int) -> list[tuple[int, Row]]:
    """Return the jobs of a file, each with the number of its line."""
    found: list[tuple[int, Row]] = []
    before_ms = 0
    for line, told in _json_lines(file) if file.suffix == JSON_LINES else _csv_lines(file):
        row = {name: _value(file, line, name, value) for name, value in told.items()}
        missing = ", ".join(name for name in NEEDED if name not in row)
        if missing:
            raise _wrong(file, line, f"{missing} is missing")
        if row["at_ms"] < before_ms:
            raise _wrong(file, line, "times only grow")
        before_ms = row["at_ms"]
        found.append((line, row))
    return found


def _json_lines(file: Path) -> Iterator[tuple[int, Row]]:
    for line, text in enumerate(file.read_text("utf-8").splitlines(), 1):
        try:
            told = json.loads(text)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise _wrong(file, line, "it is no JSON object")
        yield line, told


def _csv_lines(file: Path) -> Iterator[tuple[int, Row]]:
    rows = csv.reader(file.read_text("utf-8").splitlines())
    head = [name.strip() for name in next(rows, [])]
    missing = ", ".join(name for name in NEEDED if name not in head)
    if missing:
        raise _wrong(file, 1, f"the head names no {missing}")
    for cells in rows:
        if len(cells) != len(head):
            raise _wrong(file, rows.line_num, f"{len(cells)} cells, and the head has {len(head)}")
        given = zip(head, cells, strict=True)
        yield rows.line_num, {name: cell.strip() for name, cell in given if cell.strip()}


def _value(file: Path, line: int, name: str, value: Any) -> Any:
    if name in TEXTS and isinstance(value, str):
        return value
    if name not in BOUNDS:
        known = (*BOUNDS, *TEXTS)
        near = nearest(name, known) or f": there are {', '.join(known)}"
        raise _wrong(file, line, f"a job has no {name!r}{near}")
    least, most = BOUNDS[name]
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if isinstance(value, bool | float) or not least <= number <= most:
        raise _wrong(file, line, f"{name} should be a whole number from {least:,} to {most:,}")
    return number


def _wrong(file: Path, line: int, why: str) -> InvalidRequest:
    return InvalidRequest(f"demand: {file}, line {line}: {why}")
