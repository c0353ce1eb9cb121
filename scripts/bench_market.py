"""Many small jobs on a few providers: what the market costs, and how much of the slots it uses.

Why: a market that people load with a sweep of a thousand jobs is limited by the processor time that
one job costs its requester and its provider, and by the time that slots stand empty between jobs.
Spec: specs/overview.md#bench.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from scripts.bench_figures import memory_mib, rounded, spread
from scripts.bench_job import TICKS, cpu_seconds
from scripts.bench_peers import bench_peers
from scripts.devnet import Devnet, DevnetFailed, NodeProcess, devnet

PROVIDERS: Final = 4
CPUS: Final = 2
POLL_S: Final = 0.5
STALL_S: Final = 120.0
"""A run in which no job ends for so long has failed."""
SLOTS: Final = PROVIDERS * CPUS


def bench_market(jobs: int, seconds: float, sandbox: str, *, peers: bool) -> dict[str, Any]:
    """Run so many jobs that sleep so long; return the figures. `peers`: on Ray and Dask, too."""
    load = {"start": os.getloadavg()[0]}
    with market("mutirao-market-", sandbox) as (network, image):
        found = _measure(network, image, jobs, seconds)
        load["end"] = os.getloadavg()[0]
    found["peers"] = bench_peers(jobs, seconds, PROVIDERS, CPUS) if peers else {}
    return {
        "jobs": jobs, "seconds": seconds, "sandbox": sandbox, "slots": SLOTS,
        "nodes": PROVIDERS + 1, "load": load, "processors": os.cpu_count(), **found,
    }  # fmt: skip


@contextmanager
def market(prefix: str, sandbox: str) -> Iterator[tuple[Devnet, str]]:
    """Yield a requester, PROVIDERS that lend CPUS processors each, and an image that all have."""
    with devnet(prefix) as network:
        requester = network.add("requester", {"provider.enabled": "false"})
        for number in range(PROVIDERS):
            settings = {"price.cpu_hour": f"0.0{number + 1}", "provider.sandbox": sandbox,
                        "provider.cpus": str(CPUS)}  # fmt: skip
            network.add(f"provider-{number}", settings)
        network.wait_acquainted()
        image = requester.api.post("/images/base", timeout_s=120)["digest"]
        _run_array(requester, image, 2 * SLOTS, 1.0)  # Now every provider has the image.
        yield network, image


def _measure(network: Devnet, image: str, jobs: int, seconds: float) -> dict[str, Any]:
    requester, *providers = network.nodes
    before = [_cpu(node) for node in network.nodes]
    carried = [_traffic(node) for node in network.nodes]
    array, memory = _run_array(requester, image, jobs, seconds)
    spent = [tuple(1000 * (now - was) / jobs for now, was in zip(_cpu(node), then, strict=True))
             for node, then in zip(network.nodes, before, strict=True)]  # fmt: skip
    exchanged = [_grown(node, then) for node, then in zip(network.nodes, carried, strict=True)]
    ended = [requester.api.get(f"/jobs/{array}[{index}]") for index in range(jobs)]
    failed = [job for job in ended if job["phase"] != "done"]
    span_ms = max(job["ended_ms"] for job in ended) - min(job["submitted_ms"] for job in ended)
    used_ms = sum(job["usage_ms"] or 0 for job in ended)
    return {
        "failed": len(failed),
        "reasons": sorted({job["reason"] for job in failed}),
        "seconds_total": rounded(span_ms / 1000),
        "jobs_per_second": rounded(1000 * len(ended) / span_ms),
        "slot_time_used": rounded(used_ms / (SLOTS * span_ms)),
        "attempts": sum(job["attempts"] for job in ended),
        "wait_ms": spread([job["ended_ms"] - job["submitted_ms"] for job in ended]),
        "processor_ms_per_job": {
            "requester": rounded(spent[0][0]),
            "providers": rounded(sum(own for own, _ in spent[1:])),
            "sandbox": rounded(sum(below for _, below in spent[1:])),
        },
        "traffic_per_job": {
            "requester": _per_job(exchanged[:1], jobs),
            "providers": _per_job(exchanged[1:], jobs),
        },
        "requester_mib": [rounded(each) for each in memory],
        "providers_mib": spread([memory_mib(node) for node in providers]),
    }


def _run_array(
    requester: NodeProcess, image: str, jobs: int, seconds: float
) -> tuple[str, list[float]]:
    """Submit an array and wait for its end; return its id, and the memory over time, in MiB."""
    body = {"image": image, "command": ["sleep", f"{seconds:g}"], "max_price": "1.0",
            "memory_mib": 64, "array": f"0-{jobs - 1}"}  # fmt: skip
    array = requester.api.post("/jobs", body)["id"]
    memory, done, news = [memory_mib(requester)], 0, time.monotonic()
    while done < jobs:
        time.sleep(POLL_S)
        memory.append(memory_mib(requester))
        counts = requester.api.get(f"/jobs/{array}")
        was, done = done, counts["done"] + counts["failed"]
        news = time.monotonic() if done > was else news
        if time.monotonic() > news + STALL_S:
            raise DevnetFailed(f"{jobs - done} of {jobs} jobs do not end:\n{requester.tail()}")
    return array, memory[:: max(1, len(memory) // 10)]


def _traffic(node: NodeProcess) -> dict[str, int]:
    """Return what a node has exchanged with its peers so far: specs/network.md#traffic."""
    counts: dict[str, int] = node.api.get("/status")["traffic"]
    return counts


def _grown(node: NodeProcess, since: dict[str, int]) -> dict[str, int]:
    return {name: count - since[name] for name, count in _traffic(node).items()}


def _per_job(exchanged: list[dict[str, int]], jobs: int) -> dict[str, float]:
    """Return the traffic of some nodes together, per job."""
    return {name: rounded(sum(one[name] for one in exchanged) / jobs) for name in exchanged[0]}


def _cpu(node: NodeProcess) -> tuple[float, float]:
    """Return the processor seconds of a node itself, and of all processes below it."""
    assert node.process is not None
    below = 0.0
    for task in Path(f"/proc/{node.process.pid}/task").iterdir():
        below += sum(_tree(int(child)) for child in (task / "children").read_text().split())
    return cpu_seconds(node), below


def _tree(process: int) -> float:
    """Return the processor seconds of a process, its children and those that it has waited for."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:  # It ended meanwhile.
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS + sum(_tree(int(child)) for child in children)


def show_market(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    load = "load {start:.1f} at the start, {end:.1f} at the end".format(**found["load"])
    print(f"{found['jobs']} jobs of `sleep {found['seconds']:g}` on {found['slots']} slots of"
          f" {PROVIDERS} providers, sandbox {found['sandbox']}; {load},"
          f" {found['processors']} processors")  # fmt: skip
    spent = found["processor_ms_per_job"]
    print(f"  {found['seconds_total']} s, {found['jobs_per_second']} jobs a second,"
          f" {100 * found['slot_time_used']:.0f} % of the slots' time used;"
          f" {found['failed']} failed {' '.join(found['reasons'])}")  # fmt: skip
    print(f"  from submit to end: {found['wait_ms']['p50']} ms, p95 {found['wait_ms']['p95']} ms;"
          f" {found['attempts']} attempts")  # fmt: skip
    print(f"  processor per job: requester {spent['requester']} ms, providers"
          f" {spent['providers']} ms, sandbox {spent['sandbox']} ms")  # fmt: skip
    for side, carried in found["traffic_per_job"].items():
        sent, received = (carried[f"bytes_{way}"] / 1024 for way in ("sent", "received"))
        print(f"  per job of the {side}: messages {carried['messages_sent']} sent,"
              f" {carried['messages_received']} received; gossip {carried['gossip_sent']} sent,"
              f" {carried['gossip_received']} received; {sent:.1f} KiB sent,"
              f" {received:.1f} KiB received")  # fmt: skip
    print("  requester: " + ", ".join(f"{each:.0f}" for each in found["requester_mib"]) + " MiB")
    for name, peer in found["peers"].items():
        if "error" in peer:
            print(f"  {name}: {peer['error']}")
        else:
            print(f"  {name}: {peer['seconds_total']} s, {peer['jobs_per_second']} jobs a second,"
                  f" {100 * peer['slot_time_used']:.0f} % of the slots' time used")  # fmt: skip
