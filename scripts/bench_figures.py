"""What the benchmarks have in common: how to time a command, and how to sum up many figures.

Spec: specs/overview.md#bench.
"""

import statistics
import time
from pathlib import Path
from typing import Any

from scripts.devnet import DevnetFailed, NodeProcess


def timed_command(node: NodeProcess, *arguments: str) -> tuple[float, str]:
    """Run a command; return how long it took, in milliseconds, and what it printed."""
    begin = time.perf_counter()
    done = node.mutirao(*arguments)
    took_ms = (time.perf_counter() - begin) * 1000
    if done.returncode != 0:
        raise DevnetFailed(f"mutirao {arguments[0]} failed: {done.stderr}")
    return took_ms, done.stdout


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
        "p50": rounded(statistics.median(ordered)),
        "p95": rounded(p95),
        "least": rounded(ordered[0]),
        "most": rounded(ordered[-1]),
    }


def rounded(value: float) -> float:
    """Return a value with one digit after the point, or two that say something."""
    return round(value, 1) if abs(value) >= 1 else float(f"{value:.2g}")
