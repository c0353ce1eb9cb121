"""How long a job stands still when its provider dies, until it runs on another one.

Why: a market of other people's machines is as good as its answer to one that vanishes. A frozen
process keeps its connections, so only silence shows it; a killed one closes them at once.
Spec: specs/overview.md#bench.
"""

import os
import signal
import time
from typing import Any, Final

from scripts.bench_figures import spread
from scripts.bench_market import market
from scripts.devnet import Devnet, DevnetFailed, NodeProcess

ACCIDENTS: Final = {"frozen": signal.SIGSTOP, "killed": signal.SIGKILL}
AIMS_MS: Final = {"frozen": 20_000, "killed": 5_000}
"""The longest time until the job runs elsewhere. Of a frozen provider it counts from its last sign
of life, which is at most HEARTBEAT_MS before the accident, from which the figures count."""
POLL_S: Final = 0.02
LIMIT_S: Final = 90.0


def bench_takeover(rounds: int) -> dict[str, Any]:
    """Let providers freeze and die under jobs; return the times by kind of accident."""
    load = {"start": os.getloadavg()[0]}
    with market("mutirao-takeover-", "embedded") as (network, image):
        found = {}
        for kind, accident in ACCIDENTS.items():
            runs = [_measure(network, image, accident) for _ in range(rounds)]
            found[kind] = {name: spread([run[name] for run in runs]) for name in runs[0]}
    load["end"] = os.getloadavg()[0]
    return {"rounds": rounds, "load": load, "processors": os.cpu_count(), "aims_ms": AIMS_MS,
            "accidents": found}  # fmt: skip


def _measure(network: Devnet, image: str, accident: signal.Signals) -> dict[str, float]:
    """Start a job, let the accident happen to its provider, and wait until it runs elsewhere."""
    requester = network.nodes[0]
    body = {"image": image, "command": ["sleep", "600"], "max_price": "1.0", "memory_mib": 64}
    job = requester.api.post("/jobs", body)["id"]
    first = _running(requester, job, attempt=1)
    victim = next(node for node in network.nodes if node.peer_id == first["provider"])
    assert victim.process is not None
    happened_ms = time.time() * 1000
    victim.process.send_signal(accident)
    second = _running(requester, job, attempt=2)
    assert second["provider"] != first["provider"], "the victim took the job again"
    requester.api.post(f"/jobs/{job}/cancel")
    # Of an ended job the stream of events ends.
    events = [event.data for event in requester.api.events(f"/jobs/{job}/events")]
    noticed_ms = next(event["at_ms"] for event in events if event["kind"] == "retry")
    running_ms = [event["at_ms"] for event in events if event["kind"] == "running"][1]
    _revive(network, victim)
    return {"noticed_ms": noticed_ms - happened_ms, "running_ms": running_ms - happened_ms}


def _running(requester: NodeProcess, job: str, attempt: int) -> dict[str, Any]:
    """Wait until an attempt of a job runs; return the job."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        view: dict[str, Any] = requester.api.get(f"/jobs/{job}")
        if view["phase"] == "running" and view["attempts"] == attempt:
            return view
        time.sleep(POLL_S)
    raise DevnetFailed(f"attempt {attempt} of a job does not run:\n{requester.tail()}")


def _revive(network: Devnet, victim: NodeProcess) -> None:
    """Start a provider again and wait until all know it."""
    victim.kill()
    victim.start()
    victim.wait_ready()
    network.wait_acquainted()


def show_takeover(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    load = "load {start:.1f} at the start, {end:.1f} at the end".format(**found["load"])
    print(f"{found['rounds']} accidents of each kind; {load}, {found['processors']} processors")
    for kind, times in found["accidents"].items():
        noticed, running = times["noticed_ms"], times["running_ms"]
        print(f"  {kind}: noticed after {noticed['p50']:,.0f} ms, at most {noticed['most']:,.0f};"
              f" runs elsewhere after {running['p50']:,.0f} ms, at most {running['most']:,.0f}"
              f" (aim: {AIMS_MS[kind]:,})")  # fmt: skip
