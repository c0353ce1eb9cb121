"""How fast blobs travel from one process to another, beside a bare TLS socket of the same run.

Why: a transfer is worth its encryption, one pass of hashing and one of writing, and no more. Every
round measures the floor and each way in turn, so a ratio survives a noisy machine.
Spec: specs/overview.md#bench.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.bench_figures import rounded
from scripts.bench_job import cpu_seconds_of

MIB: Final = 2**20
SMALL: Final = (1_000, 10_000)
"""How many small blobs of how many bytes."""
LIMIT_MIB_S: Final = 8
"""Of each holder, where several are compared with one; so little that the machine can do more."""
LIMITED_PART: Final = 8
"""There the blob is so many times smaller."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has blobs."""

    pid: int
    address: str
    digests: list[str]
    bare: int


def bench_data(size_mib: int, rounds: int) -> dict[str, Any]:
    """Measure transfers of a blob of this size; return the figures by way."""
    load = {"start": os.getloadavg()[0]}
    folder = Path(tempfile.mkdtemp(prefix="mutirao-data-"))
    runs: dict[str, list[dict[str, float]]] = {}
    try:
        for _ in range(rounds):
            for way, figures in _round(folder, size_mib * MIB):
                runs.setdefault(way, []).append(figures)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    load["end"] = os.getloadavg()[0]
    ways = {way: _medians(figures) for way, figures in runs.items()}
    return {"size_mib": size_mib, "rounds": rounds, "load": load, "processors": os.cpu_count(),
            "limit_mib_s": LIMIT_MIB_S, "ways": ways}  # fmt: skip


def _round(folder: Path, size: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the figures of each way once."""
    with _holding(folder, size, 1, 0) as holder:
        yield (
            "bare TLS socket",
            _run([holder], size, {"do": "bare", "port": holder.bare, "size": size}),
        )
        yield "bulk connections", _fetched(folder, [holder], size)
        yield "streams", _fetched(folder, [holder], size, direct=False)
    with _holding(folder, SMALL[1], SMALL[0], 0) as holder:
        yield "small blobs", _fetched(folder, [holder], SMALL[1])
    for count in (1, 2, 3):
        name = f"{count} limited holder{'s' if count > 1 else ''}"
        with _several(folder, size // LIMITED_PART, count) as holders:
            yield name, _fetched(folder, holders, size // LIMITED_PART)


def _fetched(
    folder: Path, holders: list[Holder], size: int, *, direct: bool = True
) -> dict[str, float]:
    addresses = [holder.address for holder in holders]
    asked = {"do": "fetch", "folder": str(folder / "fetcher"), "digests": holders[0].digests,
             "size": size, "ways": {"addresses": addresses, "direct": direct}}  # fmt: skip
    try:
        return _run(holders, size * len(holders[0].digests), asked)
    finally:
        shutil.rmtree(folder / "fetcher", ignore_errors=True)


def _run(holders: list[Holder], size: int, asked: dict[str, Any]) -> dict[str, float]:
    """Run a fetcher; return its figures, for so many bytes in total."""
    before = sum(cpu_seconds_of(holder.pid) for holder in holders)
    command = [sys.executable, "-m", "scripts.bench_data_node", json.dumps(asked)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    used = sum(cpu_seconds_of(holder.pid) for holder in holders) - before
    gb = size / 1e9
    return {"mb_s": 1000 * gb / found["s"], "fetcher_cpu_s_per_gb": found["cpu_s"] / gb,
            "holder_cpu_s_per_gb": used / gb,
            "memory_mib": found.get("memory_mib", 0.0)}  # fmt: skip


@contextmanager
def _holding(folder: Path, size: int, count: int, mib_s: int) -> Iterator[Holder]:
    """Run a holder while the block runs."""
    place = Path(tempfile.mkdtemp(dir=folder))
    asked = {"do": "hold", "folder": str(place), "size": size, "count": count, "mib_s": mib_s}
    command = [sys.executable, "-m", "scripts.bench_data_node", json.dumps(asked)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Holder(process.pid, **json.loads(process.stdout.readline()))
        finally:
            process.kill()
    shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _several(folder: Path, size: int, count: int) -> Iterator[list[Holder]]:
    if not count:
        yield []
        return
    with (
        _holding(folder, size, 1, LIMIT_MIB_S) as holder,
        _several(folder, size, count - 1) as others,
    ):
        yield [holder, *others]


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: rounded(statistics.median(run[name] for run in runs)) for name in runs[0]}


def show_data(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    load = "load {start:.1f} at the start, {end:.1f} at the end".format(**found["load"])
    print(f"{found['size_mib']} MiB, median of {found['rounds']}; {load}, "
          f"{found['processors']} processors; limited: {found['limit_mib_s']} MiB/s")  # fmt: skip
    print(f"\n{'':18}{'MB/s':>8}{'of bare':>9}{'fetcher s/GB':>14}{'holders s/GB':>14}"
          f"{'fetcher MiB':>13}")  # fmt: skip
    floor = found["ways"]["bare TLS socket"]["mb_s"]
    for way, each in found["ways"].items():
        print(f"{way:18}{each['mb_s']:8}{each['mb_s'] / floor:9.2f}"
              f"{each['fetcher_cpu_s_per_gb']:14}{each['holder_cpu_s_per_gb']:14}"
              f"{each['memory_mib']:13}")  # fmt: skip
