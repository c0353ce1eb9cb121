"""What the simulator costs: one auction by the number of nodes, a market with churn, and sweeps.

Why: researchers choose a simulator by what it can carry. Each figure comes from a process of its
own; times are processor time, so that other work on the machine changes them little. For a ratio,
the same auction is modelled by hand in SimPy, and run beside (bench_simpy.py).
Spec: specs/simulation.md#speed.
"""

import gc
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from scripts.bench_figures import rounded
from scripts.bench_peers import python_of_peers

ROOT: Final = Path(__file__).resolve().parent.parent
SIZES: Final = {"flow": (1_000, 10_000, 100_000, 1_000_000), "message": (1_000, 10_000, 100_000)}
AUCTIONS: Final = 5
WARM_UPS: Final = 2
"""By then the requester knows who answers, and how many nodes there are."""
PAUSE_TICKS: Final = 600_000
LIMIT_S: Final = 900
MARKET: Final = {
    "nodes": 10_000, "requesters": 10, "horizon": "10m", "demand.per_minute": 60,
    "demand.work": "20s",
}  # fmt: skip
CHURN: Final = {"churn.model": "weibull", "churn.session": "1h"}
TASK: Final = {"nodes": 20, "requesters": 1, "horizon": "1s", "demand.per_minute": 60}
TASKS: Final = 40


def bench_simulate(largest: int, *, peers: bool) -> dict[str, Any]:
    """Measure up to so many nodes; with `peers` also SimPy, Dask and Ray. Return the figures."""
    load = {"start": os.getloadavg()[0]}
    auctions = {
        tier: {size: _apart("auction", tier, size) for size in sizes if size <= largest}
        for tier, sizes in SIZES.items()
    }
    found: dict[str, Any] = {
        "auctions": auctions,
        "market": {name: _apart("market", name) for name in ("steady", "churn", "no digest")},
        "sweep": {name: _apart("sweep", name) for name in ("one process", "processes")},
    }
    if peers:
        python = python_of_peers()
        found["sweep"] |= {name: _apart("sweep", name, python=python) for name in ("dask", "ray")}
        sizes = [size for size in SIZES["message"] if size <= largest]
        found["simpy"] = {size: _simpy(python, size) for size in sizes}
    load["end"] = os.getloadavg()[0]
    return {**found, "load": load, "processors": os.cpu_count(), "python": sys.version.split()[0]}


def _apart(*arguments: Any, python: Path | str = sys.executable) -> dict[str, Any]:
    """Measure something in a process of its own; return its figures, or its error."""
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ours}"}
    command = [str(python), "-m", "scripts.bench_simulate", *map(str, arguments)]
    _show_progress(" ".join(command[3:]))
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S,
        check=False,
    )  # fmt: skip
    _show_progress("")
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no word"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _simpy(python: Path, size: int) -> dict[str, Any]:
    command = [str(python), str(ROOT / "scripts/bench_simpy.py"), str(size)]
    _show_progress(f"SimPy {size}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    _show_progress("")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure_auction(tier: str, size: int) -> dict[str, float]:
    """Run auctions among so many equal nodes, each of a class of its own."""
    from node.simulator.simulation import Simulation, World
    from node.simulator.world.demand import Burst, spec_of
    from node.simulator.world.supply import Equal
    from protocol.machines.events import Awarded

    before = _memory_bytes()
    gc.disable()
    began = time.process_time()
    nothing = Burst(jobs=1, at=10**9)
    simulation = Simulation(World(size, 1, demand=nothing, supply=Equal()), tier, 1)
    simulation.start(1_000)
    engine, awarded = simulation.engine, set()
    simulation.network.witnesses.append(
        lambda _, job, event: awarded.add(job) if isinstance(event, Awarded) else None
    )
    costs = []
    for number in range(WARM_UPS + AUCTIONS):
        spec = spec_of(Burst(work=10_000), 0.5)
        spec = replace(spec, workload=replace(spec.workload, timeout_ms=100_000 + number))
        spent, events = time.process_time(), engine.events
        job = simulation.submit(0, spec)
        assert engine.run_until(lambda job=job: job in awarded, engine.now + PAUSE_TICKS)
        costs.append((time.process_time() - spent, engine.events - events))
        if number == 0:
            build_s = time.process_time() - began
        engine.run(engine.now + PAUSE_TICKS)
    seconds = statistics.median(cost for cost, _ in costs[WARM_UPS:])
    events = statistics.median(count for _, count in costs[WARM_UPS:])
    return {
        "first_s": round(build_s, 3), "auction_s": round(seconds, 4), "events": events,
        "transmissions": simulation.gossip.traffic.transmissions // len(costs),
        "events_per_s": round(events / seconds),
        "bytes_per_node": round((_memory_bytes() - before) / size),
        "memory_mib": round(_memory_bytes() / 2**20),
    }  # fmt: skip


def measure_market(kind: str) -> dict[str, Any]:
    """Run a market of 10,000 nodes for ten virtual minutes."""
    from node.simulator import Scenario
    from node.simulator.digest import Digest
    from node.simulator.simulation import Simulation

    if kind == "no digest":
        Digest.note = lambda *_: None  # type: ignore[method-assign,assignment]
    scenario = Scenario.of(MARKET | (CHURN if kind != "steady" else {}))
    gc.disable()
    began = time.process_time()
    simulation = Simulation(scenario.world, "flow", scenario.seed_of(0))
    simulation.run(scenario.settings.horizon)
    spent = time.process_time() - began
    return {
        "cpu_s": rounded(spent), "x_real_time": rounded(scenario.settings.horizon / 1000 / spent),
        "events": simulation.engine.events,
    }  # fmt: skip


def measure_sweep(backend: str) -> dict[str, Any]:
    """Run tiny tasks: what one costs beyond its work is what the back-end costs."""
    from node.simulator import Scenario, load, sweep, tasks_of

    jobs = 1 if backend == "one process" else 2
    name = "processes" if jobs == 1 else backend
    with tempfile.TemporaryDirectory() as folder:
        tasks = tasks_of(Scenario.of({**TASK, "repetitions": TASKS}), Path(folder))
        began = time.monotonic()
        times = [time.monotonic() - began for _ in sweep(tasks, jobs, name)]
        digests = sorted(load(task.folder).manifest["digest"] for task in tasks)
    return {
        "first_result_s": rounded(times[0]),
        "ms_per_task": rounded(1000 * (times[-1] - times[0]) / (TASKS - 1)),
        "digest": hashlib.sha256("".join(digests).encode()).hexdigest()[:16],
    }


def _memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _show_progress(line: str) -> None:
    """Show where we are while a person watches."""
    if sys.stderr.isatty():
        print(f"\r{line:<60}", end="" if line else "\r", file=sys.stderr, flush=True)


def show_simulate(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    load = "load {start:.1f} at the start, {end:.1f} at the end".format(**found["load"])
    print(f"processor time; {load}, {found['processors']} processors, Python {found['python']}\n")
    form = "{:<9}{:>10}{:>12}{:>10}{:>12}{:>14}{:>12}{:>8}"
    print(
        form.format(
            "tier", "nodes", "first, s", "auction, s", "events", "events/s", "B/node", "MiB"
        )
    )
    for tier, sizes in found["auctions"].items():
        for size, each in sizes.items():
            print(form.format(
                tier, size, each["first_s"], each["auction_s"], each["events"],
                each["events_per_s"], each["bytes_per_node"], each["memory_mib"],
            ))  # fmt: skip
    for size, each in found.get("simpy", {}).items():
        print(form.format(
            "SimPy", size, "", each["auction_s"], each["events"], each["events_per_s"],
            each["bytes_per_node"], each["memory_mib"],
        ))  # fmt: skip
    print("\na market of 10,000 nodes, one job a second, ten virtual minutes")
    for name, each in found["market"].items():
        print(f"  {name:<12}{each['cpu_s']:>8} s{each['x_real_time']:>8} x real time")
    print("\na sweep of tiny runs")
    for name, each in found["sweep"].items():
        told = each.get(
            "error"
        ) or "first result {first_result_s} s, {ms_per_task} ms a task, {digest}".format(**each)
        print(f"  {name:<12}{told}")


def main(arguments: Sequence[str]) -> None:
    """Measure one thing, and print its figures."""
    match arguments:
        case ["auction", tier, size]:
            found = measure_auction(tier, int(size))
        case ["market", kind]:
            found = measure_market(kind)
        case ["sweep", backend]:
            found = measure_sweep(backend)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
