"""What a job's disk costs at its start, and what memory a large checkpoint and output need.

Why: a disk must not make a small job wait, and nothing on the way of a large file may hold it in
memory. The kinds take turns, so that their difference is meaningful on a busy machine, too.
Spec: specs/overview.md#bench.
"""

import os
import re
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import trio

from node.sandbox.driver import NAME_PREFIX, ContainerSpec
from node.sandbox.embedded import EmbeddedDriver
from node.sandbox.runner import job_disk
from node.sandbox.selftest import host_rootfs
from protocol.values.ids import Digest
from protocol.wire.job import Resources, Workload
from scripts.bench_figures import spread
from scripts.bench_market import market
from scripts.devnet import DevnetFailed, NodeProcess

KINDS: Final = (job_disk.IN_MEMORY, job_disk.BY_WATCH, job_disk.BY_IMAGE)
JOB_MIB: Final = 64
POLL_S: Final = 0.05
LIMIT_S: Final = 900.0
WRITE: Final = """
import os, sys, time
with open('/out/new', 'wb') as file:
    for _ in range({mib}):
        file.write(os.urandom(1 << 20))
os.rename('/out/new', '/out/state')
time.sleep({seconds})
"""


def bench_disk(rounds: int, mib: int) -> dict[str, Any]:
    """Start containers with each kind of disk; then let a job leave a large file."""
    load = {"start": os.getloadavg()[0]}
    found: dict[str, Any] = {"rounds": rounds, "kinds": trio.run(_kinds, rounds)}
    with market("mutirao-disk-", "embedded") as (network, image):
        found["large"] = {"mib": mib, "job_mib": JOB_MIB} | _large(network.nodes, image, mib)
    return found | {"load": load | {"end": os.getloadavg()[0]}}


async def _kinds(rounds: int) -> dict[str, Any]:
    """Return milliseconds until the container runs, and until it has ended."""
    times: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="mutirao-disk-") as scratch:
        driver = EmbeddedDriver(Path(scratch) / "runs")
        driver.runs.mkdir(mode=0o700)
        rootfs, extra = host_rootfs(Path(scratch) / "rootfs")
        kinds = KINDS if driver.disks.is_hard() else KINDS[:-1]
        for number in range((rounds + 1) * len(kinds)):
            kind = kinds[number % len(kinds)]
            driver.disks.kind_for = lambda _limits, kind=kind: kind  # type: ignore[method-assign]
            workload = Workload(Digest(bytes(32)), ("true",), resources=Resources())
            workload = replace(workload, disk_in_memory=kind == job_disk.IN_MEMORY)
            spec = ContainerSpec(f"{NAME_PREFIX}{number}", workload, str(rootfs))
            folder = driver.runs / str(number)
            folder.mkdir(mode=0o700)
            begin = time.perf_counter()
            await driver.start_with(spec, folder, extra)
            started = time.perf_counter()
            await driver.wait(folder)
            ended = time.perf_counter()
            if number >= len(kinds):  # The first of each finds out what the machine can.
                times.setdefault(kind, []).append((started - begin, ended - begin))
            await driver.remove(folder)
        await driver.reap(frozenset())
    return {
        kind: {
            "start_ms": spread([1000 * start for start, _ in pairs]),
            "end_ms": spread([1000 * end for _, end in pairs]),
        }
        for kind, pairs in times.items()
    }


def _large(nodes: list[NodeProcess], image: str, mib: int) -> dict[str, Any]:
    """Take a large checkpoint, and fetch a large output; return what memory that took."""
    requester = nodes[0]
    before = {node.name: _resident_mib(node) for node in nodes}
    seconds = {}
    for kind in ("checkpoint", "output"):
        body = {
            "image": image, "max_price": "1.0", "memory_mib": JOB_MIB, "disk_mib": mib + 64,
            "command": ["python3", "-c", WRITE.format(mib=mib, seconds=3600 * (kind != "output"))],
        }  # fmt: skip
        if kind == "checkpoint":
            body |= {"checkpoint": "/out/state", "checkpoint_ms": 5_000}
        begin = time.monotonic()
        job = requester.api.post("/jobs", body)["id"]
        _wait(requester, job, kind)
        seconds[f"{kind}_s"] = round(time.monotonic() - begin, 1)
        if kind == "checkpoint":
            requester.api.post(f"/jobs/{job}/cancel")
    peaks = {node.name: _peak_mib(node) - before[node.name] for node in nodes}
    return seconds | {"memory_above_idle_mib": max(peaks.values()), "by_node": peaks}


def _wait(requester: NodeProcess, job: str, kind: str) -> None:
    """Wait until the checkpoint is at the requester, or the outputs."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        view = requester.api.get(f"/jobs/{job}")
        if view["phase"] in ("failed", "cancelled"):
            raise DevnetFailed(f"the job ended: {view['reason']}: {view['why']}")
        if view["checkpoint"] if kind == "checkpoint" else view["phase"] == "done":
            return
        time.sleep(POLL_S)
    raise DevnetFailed(f"no {kind} within {LIMIT_S:g} s:\n{requester.tail()}")


def _resident_mib(node: NodeProcess) -> int:
    return _status_mib(node, "VmRSS")


def _peak_mib(node: NodeProcess) -> int:
    return _status_mib(node, "VmHWM")


def _status_mib(node: NodeProcess, field: str) -> int:
    """Return a daemon's memory in MiB: what it holds now, or the most that it ever held."""
    assert node.process is not None
    text = Path(f"/proc/{node.process.pid}/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    return int(found[1]) >> 10 if found else 0


def show_disk(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    load = "load {start:.1f} at the start, {end:.1f} at the end".format(**found["load"])
    print(f"{found['rounds']} containers of each kind; {load}")
    for kind, times in found["kinds"].items():
        start, end = times["start_ms"], times["end_ms"]
        print(f"  {kind:7} runs after {start['p50']:6.1f} ms, at least {start['least']:6.1f};"
              f" has ended after {end['p50']:6.1f} ms, at least {end['least']:6.1f}")  # fmt: skip
    large = found["large"]
    print(f"a file of {large['mib']} MiB of a job with {large['job_mib']} MiB of memory:"
          f" checkpoint here after {large['checkpoint_s']} s, output after {large['output_s']} s;"
          f" the daemons' memory grew by {large['memory_above_idle_mib']} MiB at most")  # fmt: skip
