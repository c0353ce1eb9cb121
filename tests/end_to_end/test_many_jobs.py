"""Hundreds of small jobs in one call: all end well, each runs once and is delivered once.

Spec: specs/arrays.md, specs/queue.md. `scripts/bench market` has a thousand.
"""

import re
from collections import Counter
from pathlib import Path

import pytest

from scripts.devnet import NodeProcess
from tests.end_to_end.fixtures import named, network_of, rows_of, start

pytestmark = pytest.mark.timeout(300)

JOBS = 400
PROVIDERS = {
    f"provider-{number}": {"price.cpu_hour": f"0.01{number}", "provider.cpus": "2"}
    for number in range(4)
}
GROWTH_MIB = 40
"""Less than 0.1 MiB for each of the jobs: what has ended does not stay in memory."""
STARTED = re.compile(r'msg="a job of a peer starts here" lease=(\w+)')


@pytest.fixture(scope="module")
def crowd(image):
    with network_of(PROVIDERS, image) as network:
        yield network


def test_all_jobs_end_and_each_runs_and_is_delivered_once(crowd, tmp_path):
    requester = named(crowd, "requester")
    before_mib = memory_mib(requester, "VmRSS")
    script = "echo $MUTIRAO_ARRAY_INDEX >/out/index"
    array = start(
        requester, f"--array=0-{JOBS - 1}", "--memory=64M", "base", "--", "sh", "-c", script
    )
    waited = requester.mutirao("wait", array)
    assert (waited.returncode, f"{JOBS} of {JOBS} done" in waited.stderr) == (0, True), waited
    assert memory_mib(requester, "VmHWM") - before_mib < GROWTH_MIB

    told = Counter(rows_of(requester, "SELECT job_id, kind FROM job_events"))
    ends = Counter({key: count for key, count in told.items() if key[1] in {"done", "failed"}})
    assert len(ends) == JOBS
    assert {(kind, count) for (_, kind), count in ends.items()} == {("done", 1)}, "delivered once"
    started = Counter(
        lease for name in PROVIDERS for lease in STARTED.findall(named(crowd, name).log.read_text())
    )
    assert set(started.values()) == {1}, "each container starts once"
    attempts = JOBS + sum(count for (_, kind), count in told.items() if kind == "retry")
    assert JOBS <= len(started) <= attempts, "none runs that no attempt asked for"
    paid = rows_of(requester, "SELECT count(*) FROM receipts WHERE length(countersign) > 0")
    assert paid == [(len(started),)]

    fetched = requester.mutirao("outputs", array, str(tmp_path / "result"))
    assert fetched.returncode == 0, fetched.stderr
    found = {path.parent.name: path.read_text() for path in (tmp_path / "result").rglob("index")}
    assert found == {str(index): f"{index}\n" for index in range(JOBS)}


def memory_mib(node: NodeProcess, what: str) -> float:
    """Return a node's memory: VmRSS, what it uses now, or VmHWM, the most that it has used."""
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    found = next(line for line in status.splitlines() if line.startswith(what))
    return int(found.split()[1]) / 1024
