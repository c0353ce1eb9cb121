"""How long an award takes, and what it costs, by the number of processes.

Why: every bidder of every auction costs its requester and itself processor time, so a market must
not become slower as it grows. Each job is of a class of its own: no auction is shared.
Spec: specs/overview.md#bench.
"""

import os
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


def bench_award(sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """Measure networks of so many processes; return the figures by size and kind of job."""
    load = {"start": os.getloadavg()[0]}
    found = {str(size): _measure(size, rounds) for size in sizes}
    load["end"] = os.getloadavg()[0]
    return {"rounds": rounds, "load": load, "processors": os.cpu_count(), "processes": found}


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
        found = {}
        for kind, terms in KINDS.items():
            for _ in range(WARM_UPS):
                _run_one(requester, image, terms, next(classes))
            before = _cpu(network)
            runs = [_run_one(requester, image, terms, next(classes)) for _ in range(rounds)]
            spent = [1000 * (now - was) for now, was in zip(_cpu(network), before, strict=True)]
            found[kind] = {
                "award_ms": spread(runs),
                "requester_cpu_ms_per_bidder": rounded(spent[0] / rounds / (size - 1)),
                "provider_cpu_ms_per_bid": rounded(sum(spent[1:]) / rounds / (size - 1)),
            }
        return found


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


def _cpu(network: Devnet) -> list[float]:
    return [cpu_seconds(node) for node in network.nodes]


def show_award(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    load = "load {start:.1f} at the start, {end:.1f} at the end".format(**found["load"])
    print(f"{found['rounds']} jobs of each kind; {load}, {found['processors']} processors\n")
    print(f"{'processes':>9}  {'job':10}{'submit to contract, ms':>24}{'p95':>8}"
          f"{'requester, ms a bidder':>24}{'provider, ms a bid':>20}")  # fmt: skip
    for size, kinds in found["processes"].items():
        for kind, each in kinds.items():
            print(
                f"{size:>9}  {kind:10}{each['award_ms']['p50']:24}{each['award_ms']['p95']:8}"
                f"{each['requester_cpu_ms_per_bidder']:24}{each['provider_cpu_ms_per_bid']:20}"
            )
