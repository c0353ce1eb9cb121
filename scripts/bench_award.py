"""How long an award takes, and what it costs, by the number of processes.

Why: every bidder of every auction costs its requester and itself processor time, so a market must
not become slower as it grows. Each job is of a class of its own: no auction is shared. What the
nodes spend when they do nothing is subtracted; what one bidder more costs is the slope over the
sizes, for a job costs its requester and its winner something whoever else bids.
Spec: specs/overview.md#bench.
"""

import os
import statistics
import time
from collections.abc import Sequence
from typing import Any, Final

from scripts.bench_figures import rounded, spread
from scripts.bench_job import cpu_seconds
from scripts.devnet import Devnet, DevnetFailed, NodeProcess, devnet

KINDS: Final[dict[str, dict[str, Any]]] = {
    "sealed": {"profile": "vickrey"},
    "quick": {"profile": "quick"},
    "gang of 4": {"profile": "vickrey", "nodes": 4},
}
WARM_UPS: Final = 6
"""By then streams stand, and it is known who answers."""
HOUR_MS: Final = 3_600_000
ENDS: Final = ("requester", "providers")
IDLE_S: Final = 15.0
"""How long the nodes are watched while they do nothing."""


def bench_award(sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """Measure networks of so many processes; return the figures by size and kind of job."""
    load = {"start": os.getloadavg()[0]}
    found = {size: _measure(size, rounds) for size in sizes}
    load["end"] = os.getloadavg()[0]
    return {
        "rounds": rounds, "load": load, "processors": os.cpu_count(), "processes": found,
        "cpu_ms_per_bidder": _per_bidder(found) if len(found) > 1 else {},
    }  # fmt: skip


def _measure(size: int, rounds: int) -> dict[str, Any]:
    with devnet("mutirao-award-") as network:
        requester = network.add("requester", {"provider.enabled": "false"})
        for number in range(size - 1):
            settings = {"price.cpu_hour": f"0.0{number + 10}", "provider.sandbox": "embedded",
                        "provider.cpus": "4"}  # fmt: skip
            network.add(f"provider-{number}", settings)
        network.wait_acquainted()
        image = requester.api.post("/images/base", timeout_s=120)["digest"]
        classes = iter(range(10**6))
        for terms in KINDS.values():
            for _ in range(WARM_UPS):
                _run_one(requester, image, terms, next(classes))
        idle = _idle(network)
        found = {"idle_cpu_ms_per_s": dict(zip(ENDS, map(rounded, idle), strict=True)), "kinds": {}}
        runs: dict[str, list[float]] = {kind: [] for kind in KINDS}
        costs = {kind: [0.0, 0.0] for kind in KINDS}
        # The kinds take turns: what nodes do at times of their own falls on all of them.
        for kind, terms in [*KINDS.items()] * rounds:
            before, began = _cpu_ms(network), time.monotonic()
            runs[kind].append(_run_one(requester, image, terms, next(classes)))
            took_s = time.monotonic() - began
            for end, (now, was, rest) in enumerate(
                zip(_cpu_ms(network), before, idle, strict=True)
            ):
                costs[kind][end] += (now - was - took_s * rest) / rounds
        for kind in KINDS:
            cpu = dict(zip(ENDS, map(rounded, costs[kind]), strict=True))
            found["kinds"][kind] = {"award_ms": spread(runs[kind]), "cpu_ms_per_job": cpu}
        return found


def _per_bidder(found: dict[int, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return what one bidder more costs either end, by kind: the slope over the sizes."""
    slopes: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        costs = [each["kinds"][kind]["cpu_ms_per_job"] for each in found.values()]
        slopes[kind] = {
            end: rounded(
                statistics.linear_regression(list(found), [cost[end] for cost in costs]).slope
            )
            for end in ENDS
        }
    return slopes


def _run_one(requester: NodeProcess, image: str, terms: dict[str, Any], number: int) -> float:
    """Run a job; return the time from its submission to its contracts, in milliseconds."""
    body = {"image": image, "command": ["true"], "max_price": "1.0", "memory_mib": 64,
            "timeout_ms": HOUR_MS + number, **terms}  # fmt: skip
    job = requester.api.post("/jobs", body)
    members = [job["id"]]
    if "nodes" in terms:
        members = [each["id"] for each in requester.api.get(f"/jobs/{job['id']}/members")]
    contracts = [_contract_ms(requester, member) for member in members]
    return max(contracts) - float(job["submitted_ms"])


def _contract_ms(requester: NodeProcess, job: str) -> float:
    """Follow a job to its end; return when its provider had the contract."""
    events = [event.data for event in requester.api.events(f"/jobs/{job}/events")]
    if events[-1]["kind"] != "done":
        raise DevnetFailed(f"a job failed: {events[-1]['detail']}")
    return float(next(event["at_ms"] for event in events if event["kind"] == "fetching"))


def _idle(network: Devnet) -> tuple[float, float]:
    """Return the processor time that doing nothing costs either end, in milliseconds a second."""
    before, began = _cpu_ms(network), time.monotonic()
    time.sleep(IDLE_S)
    took_s = time.monotonic() - began
    requester, providers = _cpu_ms(network)
    return (requester - before[0]) / took_s, (providers - before[1]) / took_s


def _cpu_ms(network: Devnet) -> tuple[float, float]:
    """Return the processor time of the requester and of all providers, in milliseconds."""
    requester, *providers = (1000 * cpu_seconds(node) for node in network.nodes)
    return requester, sum(providers)


def show_award(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    load = "load {start:.1f} at the start, {end:.1f} at the end".format(**found["load"])
    print(f"{found['rounds']} jobs of each kind; {load}, {found['processors']} processors")
    print("processor time in milliseconds per job, without what idle nodes use\n")
    print(f"{'processes':>9}  {'job':10}{'submit to contract, ms':>24}{'p95':>8}"
          f"{'requester':>12}{'all providers':>15}")  # fmt: skip
    for size, measured in found["processes"].items():
        for kind, each in measured["kinds"].items():
            award, cpu = each["award_ms"], each["cpu_ms_per_job"]
            print(f"{size:>9}  {kind:10}{award['p50']:24}{award['p95']:8}"
                  f"{cpu['requester']:12}{cpu['providers']:15}")  # fmt: skip
    for kind, slope in found["cpu_ms_per_bidder"].items():
        print(
            f"one bidder more costs, {kind:10}{'':21}{slope['requester']:12}{slope['providers']:15}"
        )
