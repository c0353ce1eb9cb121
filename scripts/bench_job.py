"""The way of a job, step by step: medians over many jobs, with their floors from the same run.

Why: speed is measured here and never asserted in a test, because machines are noisy. Floors
(scripts/bench_floors.py) make figures of different machines comparable, and the load says whether
something else was running; a figure and its floors take turns, so that a noisy moment hits all.
Spec: specs/overview.md#bench.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from scripts.bench_figures import memory_mib, spread, timed_command
from scripts.bench_floors import Floors
from scripts.devnet import Devnet, DevnetFailed, NodeProcess, devnet

COMMAND: Final = ("true",)
PROVIDERS: Final = 4
WARM_UPS: Final = 4
"""By then every provider that may win has the image, and streams stand."""
IDLE_S: Final = 20.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
LINES: Final = {
    "floors": {
        "loopback_echo": "a round trip over loopback TCP",
        "bare_bwrap": "bare bwrap with the same mounts",
        "docker_run": "bare docker run",
        "own_driver": "the node's own driver, as the daemon uses it",
    },
    "job": {
        "submit_to_award": "submit to award",
        "award_to_start": "award to start",
        "start_to_result": "start to result",
        "submit_to_result": "submit to result, all of it",
    },
    "client": {
        "run_command": "mutirao run, from its start to its exit",
        "run_beyond_job": "of this, what is not between submit and result",
        "status_command": "mutirao status",
        "api_call": "one call of the API (GET /v1/status)",
    },
}
"""What each figure is, in the order in which they are shown."""


def bench_job(jobs: int, sandbox: str) -> dict[str, Any]:
    """Run the same job again and again; return figures and floors in milliseconds."""
    with devnet("mutirao-bench-") as network:
        return _measure(network, jobs, sandbox)


def _measure(network: Devnet, jobs: int, sandbox: str) -> dict[str, Any]:
    load = {"start": os.getloadavg()[0]}
    requester = network.add("requester", {"provider.enabled": "false"})
    for number in range(PROVIDERS):
        settings = {"price.cpu_hour": f"0.0{number + 1}", "provider.sandbox": sandbox}
        network.add(f"provider-{number}", settings)
    network.wait_acquainted()
    idle = idle_figures(network)
    image = requester.api.post("/images/base", timeout_s=120)["digest"]
    for _ in range(WARM_UPS):
        run_one(requester, image)
    root = network.nodes[1].data / "roots" / image
    figures: dict[str, list[dict[str, float]]] = {"floors": [], "job": [], "client": []}
    with tempfile.TemporaryDirectory(prefix="mutirao-bare-") as name:
        floors = Floors(sandbox, Path(name), image, root)
        for _ in range(jobs):
            figures["floors"].append({key: measure() for key, measure in floors.of.items()})
            figures["job"].append(run_one(requester, image))
            figures["client"].append(client_figures(requester, image))
    load["end"] = os.getloadavg()[0]
    found = {part: {key: spread([run[key] for run in runs]) for key in runs[0]}
             for part, runs in figures.items()}  # fmt: skip
    return {
        "sandbox": sandbox, "jobs": jobs, "nodes": len(network.nodes),
        "command": " ".join(COMMAND), "load": load, "processors": os.cpu_count(),
        **{f"{part}_ms": values for part, values in found.items()},
        "ratios": ratios_of(found), **idle,
    }  # fmt: skip


def run_one(requester: NodeProcess, image: str) -> dict[str, float]:
    """Run one job; return how long its parts took, in milliseconds, by the requester's events."""
    body = {"image": image, "command": list(COMMAND), "max_price": "1.0", "memory_mib": 64}
    job = requester.api.post("/jobs", body)
    marks = {event.data["kind"]: event.data["at_ms"]
             for event in requester.api.events(f"/jobs/{job['id']}/events")}  # fmt: skip
    if "done" not in marks:
        raise DevnetFailed(f"a job failed: {requester.api.get('/jobs/' + job['id'])['why']}")
    submitted = job["submitted_ms"]
    return {
        "submit_to_award": marks["awarded"] - submitted,
        "award_to_start": marks["running"] - marks["awarded"],
        "start_to_result": marks["done"] - marks["starting"],
        "submit_to_result": marks["done"] - submitted,
    }


def client_figures(requester: NodeProcess, image: str) -> dict[str, float]:
    """Return how long commands take for who types them, in milliseconds."""
    options = ("--max-price", "1.0", "--memory", "64M", "--json", image, "--", *COMMAND)
    took_ms, printed = timed_command(requester, "run", *options)
    job = json.loads(printed.splitlines()[-1])["job"]
    begin = time.perf_counter()
    requester.api.get("/status")
    api_ms = (time.perf_counter() - begin) * 1000
    return {
        "run_command": took_ms,
        "run_beyond_job": took_ms - (job["ended_ms"] - job["submitted_ms"]),
        "status_command": timed_command(requester, "status", "--json")[0],
        "api_call": api_ms,
    }


def ratios_of(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return how many times each floor the parts with a container took, by their medians."""
    floors = {name: values["p50"] for name, values in found["floors"].items()}
    del floors["loopback_echo"]
    figures = {"own_driver": found["floors"]["own_driver"], **found["job"], **found["client"]}
    return {
        key: {name: round(figures[key]["p50"] / floor, 1) for name, floor in floors.items()}
        for key in ("own_driver", "start_to_result", "submit_to_result", "run_command")
    }


def show_job(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    load = "load {start:.1f} at the start, {end:.1f} at the end".format(**found["load"])
    print(f"{found['jobs']} jobs of `{found['command']}` on {found['nodes']} nodes,"
          f" sandbox {found['sandbox']}; {load}, {found['processors']} processors")  # fmt: skip
    for part, lines in LINES.items():
        print(f"\n{part + ', ms':46}{'p50':>9}{'p95':>9}   times the floor")
        for key, words in lines.items():
            if values := found[f"{part}_ms"].get(key):
                print(f"  {words:44}{values['p50']:9}{values['p95']:9}{times(found, key)}")
    print("\nan idle node: {p50} % of a processor".format(**found["idle_cpu_percent"])
          + ", {p50} MiB".format(**found["idle_memory_mib"]))  # fmt: skip


def times(found: dict[str, Any], key: str) -> str:
    """Return how many times its floors a figure is, in words; "" for what has none."""
    ratios = found["ratios"].get(key, {})
    return "   " + ", ".join(
        f"{ratio} x {name.replace('_', ' ')}" for name, ratio in ratios.items() if name != key
    )


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
    return cpu_seconds_of(node.process.pid)


def cpu_seconds_of(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
