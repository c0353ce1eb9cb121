"""Benchmarks of the node. Figures are medians over many jobs, with their floor from the same run.

Why: speed is measured here and never asserted in a test, because machines are noisy; the floor (the
same command in the bare sandbox, without a network) makes figures of different machines comparable.
Spec: specs/overview.md#bench.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import trio

from node.sandbox.driver import Launch
from node.sandbox.embedded import EmbeddedDriver
from protocol.values.ids import Digest
from protocol.wire.job import Workload
from scripts.devnet import Devnet, DevnetFailed, NodeProcess, devnet, show_json

COMMAND: Final = ("true",)
PROVIDERS: Final = 4
IDLE_S: Final = 20.0
STATUS_RUNS: Final = 15
TICKS: Final = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Run one benchmark and print its figures."""
    parser = argparse.ArgumentParser(prog="scripts/bench")
    benches = parser.add_subparsers(dest="bench", required=True)
    job = benches.add_parser("job", help="a job's way through 5 processes, step by step")
    job.add_argument("--jobs", type=int, default=30, help="how many jobs (at least 20 count)")
    asked = parser.parse_args()
    try:
        with devnet("mutirao-bench-") as network:
            show_json(bench_job(network, asked.jobs))
    except DevnetFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def bench_job(network: Devnet, jobs: int) -> dict[str, Any]:
    """Run the same job again and again; return medians in milliseconds and the floor."""
    requester = network.add("requester", {"provider.enabled": "false"})
    for number in range(PROVIDERS):
        network.add(f"provider-{number}", {"price.cpu_hour": f"0.0{number + 1}"})
    network.wait_acquainted()
    idle = idle_figures(network)
    image: dict[str, Any] = requester.api.post("/images/base", timeout_s=120)
    warm_up(requester, image["digest"])
    winner = network.nodes[1]
    rootfs = winner.data / "roots" / image["digest"]
    floor, runs = [], []
    for _ in range(jobs):  # One after the other, so that a noisy moment hits both.
        floor.append(trio.run(run_bare, rootfs))
        runs.append(run_one(requester, image["digest"]))
    bare = statistics.median(floor)
    from_start = [run["starting_done"] for run in runs]
    return {
        "jobs": jobs,
        "nodes": len(network.nodes),
        "command": " ".join(COMMAND),
        "submit_to_award_ms": spread([run["submit_award"] for run in runs]),
        "award_to_start_ms": spread([run["award_running"] for run in runs]),
        "start_to_result_ms": spread(from_start),
        "end_to_end_ms": spread([run["submit_done"] for run in runs]),
        "bare_sandbox_ms": spread(floor),
        "overhead_start_to_result_ms": round(statistics.median(from_start) - bare, 1),
        "overhead_end_to_end_ms": round(
            statistics.median(run["submit_done"] for run in runs) - bare, 1
        ),
        "status_command_ms": spread([status_command(requester) for _ in range(STATUS_RUNS)]),
        **idle,
    }


def warm_up(requester: NodeProcess, image: str) -> None:
    """Run two jobs, so that the image is at the provider and streams stand."""
    for _ in range(2):
        run_one(requester, image)


def run_one(requester: NodeProcess, image: str) -> dict[str, int]:
    """Run one job; return how long its parts took, in milliseconds, by the requester's events."""
    body = {"image": image, "command": list(COMMAND), "max_price": "1.0", "memory_mib": 64}
    job = requester.api.post("/jobs", body)
    marks = {event.data["kind"]: event.data["at_ms"]
             for event in requester.api.events(f"/jobs/{job['id']}/events")}  # fmt: skip
    if "done" not in marks:
        raise DevnetFailed(f"a job failed: {requester.api.get('/jobs/' + job['id'])['why']}")
    submitted = job["submitted_ms"]
    return {
        "submit_award": marks["awarded"] - submitted,
        "award_running": marks["running"] - marks["awarded"],
        "starting_done": marks["done"] - marks["starting"],
        "submit_done": marks["done"] - submitted,
    }


async def run_bare(rootfs: Path) -> float:
    """Run the command in the bare sandbox; return milliseconds from start to exit."""
    with tempfile.TemporaryDirectory(prefix="mutirao-bare-") as name:
        driver = EmbeddedDriver(Path(name))
        folder = Path(name) / "run"
        folder.mkdir(mode=0o700)
        workload = Workload(Digest(bytes(32)), COMMAND)
        launch = Launch("mutirao-bench", workload, str(rootfs), budget_ms=60_000)
        begin = time.perf_counter()
        await driver.start(launch, folder)
        await driver.wait(folder)
        took_ms = (time.perf_counter() - begin) * 1000
        await driver.remove(folder)
    return took_ms


def status_command(node: NodeProcess) -> float:
    """Return how long `mutirao status --json` takes, in milliseconds."""
    begin = time.perf_counter()
    node.mutirao("status", "--json")
    return (time.perf_counter() - begin) * 1000


def idle_figures(network: Devnet) -> dict[str, Any]:
    """Return what an idle daemon costs: processor in percent of a core, memory in MiB."""
    time.sleep(5)  # What starting left to do is not idling.
    before = [cpu_seconds(node) for node in network.nodes]
    time.sleep(IDLE_S)
    spent = [cpu_seconds(node) - was for node, was in zip(network.nodes, before, strict=True)]
    return {
        "idle_cpu_percent": spread([100 * seconds / IDLE_S for seconds in spent]),
        "idle_memory_mib": spread([memory_mib(node) for node in network.nodes]),
    }


def cpu_seconds(node: NodeProcess) -> float:
    """Return the processor time that a node has used."""
    assert node.process is not None
    fields = Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(node: NodeProcess) -> float:
    """Return a node's resident memory."""
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(resident.split()[1]) / 1024


def spread(values: list[Any]) -> dict[str, float]:
    """Return median, 95th percentile and extremes."""
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return {
        "p50": round(statistics.median(ordered), 1),
        "p95": round(p95, 1),
        "least": round(ordered[0], 1),
        "most": round(ordered[-1], 1),
    }


if __name__ == "__main__":
    sys.exit(main())
