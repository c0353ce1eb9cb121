"""A job that counts, and whose providers go: each next one continues where the last checkpoint was.

Spec: specs/checkpoints.md.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.devnet import Devnet, NodeProcess
from tests.end_to_end.fixtures import (
    count_sleeping,
    end_sleep,
    ended,
    events_of,
    is_free,
    job_of,
    left_behind,
    log_of,
    named,
    network_of,
    owner_of,
    reached,
    sleep_command,
    start,
    until,
)

pytestmark = pytest.mark.timeout(240)

PROVIDERS = {"killed": "0.010", "stopped": "0.011", "reclaimed": "0.012", "last": "0.013"}
"""Providers and their prices: the job comes to them in this order."""
SCRIPT = """
import os, signal, subprocess, sys
place = os.environ["MUTIRAO_CHECKPOINT"]
count = int(open(place).read()) if os.environ.get("MUTIRAO_RESUME") else 0
def step(*told):
    global count
    count += 1
    with open(place + ".new", "w") as file:
        file.write(str(count))
    os.replace(place + ".new", place)
    if told:
        sys.exit(1)
signal.signal(signal.SIGTERM, step)
print("begin at", count, flush=True)
for _ in range(10):
    step()
if count < 35:
    subprocess.run(sys.argv[1:])
print("end at", count)
"""


class Counting:
    """The job, and what was seen of it."""

    def __init__(self, network: Devnet) -> None:
        self.network = network
        self.requester = named(network, "requester")
        self.sleep = sleep_command()
        self.job = start(
            self.requester, "--checkpoint=/out/state/count", "--checkpoint-every=5s", "--retries=3",
            "base", "--",
            "sh", "-c", 'mkdir -p /out/state; exec python3 -c "$0" "$@"', SCRIPT,
            *self.sleep.split(),
        )  # fmt: skip
        self.shown = ""
        self.reclaimed = ""
        self.view: dict[str, Any] = {}

    def sleeps_on(self, name: str) -> NodeProcess:
        """Wait until the job has counted and sleeps on a provider; return that one."""
        node = named(self.network, name)

        def is_there() -> bool:
            view = job_of(self.requester, self.job)
            there = view["phase"] == "running" and view["provider"] == node.peer_id
            return there and count_sleeping(self.sleep) > 0

        until(is_there, f"the job to sleep on {name}", 60)
        return node


@pytest.fixture(scope="module")
def counting(image: Path) -> Iterator[Counting]:
    settings = {name: {"price.cpu_hour": price} for name, price in PROVIDERS.items()}
    with network_of(settings, image) as network:
        counting = Counting(network)
        killed = counting.sleeps_on("killed")
        until(lambda: job_of(counting.requester, counting.job)["checkpoint"], "a checkpoint", 30)
        killed.kill()
        end_sleep(counting.sleep, killed)  # Its container outlives the daemon.
        stopped = counting.sleeps_on("stopped")
        counting.shown = counting.requester.mutirao("show", counting.job).stdout
        assert stopped.stop() == 0
        reclaimed = counting.sleeps_on("reclaimed")
        told = reclaimed.mutirao("reclaim", "--within", "20s")
        assert told.returncode == 0, told.stderr
        assert left_behind(reclaimed) == [], "it answers when nothing is left"
        counting.reclaimed = told.stderr
        counting.view = ended(counting.requester, counting.job)
        yield counting


def test_the_job_ends_well_where_it_came_last(counting: Counting) -> None:
    assert (counting.view["phase"], counting.view["exit_code"]) == ("done", 0)
    assert owner_of(counting.network, counting.view["provider"]) == "last"
    reasons = [failed["reason"] for failed in counting.view["failed_attempts"]]
    assert reasons == ["provider-lost", "provider-stopped", "provider-stopped"]


def test_it_continued_from_what_it_had_saved_last(counting: Counting) -> None:
    """Killed after ten steps; then twice ten more, and one in the time that the notice gave it."""
    assert log_of(counting.requester, counting.job) == "begin at 32\nend at 42\n"
    told = [event["detail"] for event in events_of(counting.requester, counting.job)
            if event["kind"] == "fetching"]  # fmt: skip
    points = [detail["resumes_from"] for detail in told]
    assert points == sorted(points)
    assert points[0] == 0 < points[1] < points[2] < points[3]


def test_the_user_sees_it(counting: Counting) -> None:
    assert "continued from  checkpoint 1\n" in counting.shown
    assert "checkpoint      1, 0.0 MiB, " in counting.shown
    kinds = [event["kind"] for event in events_of(counting.requester, counting.job)]
    assert kinds.index("checkpoint") < kinds.index("preempted") < kinds.index("done")
    assert counting.view["resumes_from"] == counting.view["checkpoint"]["number"]


def test_the_owner_who_reclaimed_its_machine_has_it_for_itself(counting: Counting) -> None:
    assert "waiting for 1 job of others\n" in counting.reclaimed
    assert counting.reclaimed.endswith("no jobs of others run here\n")
    node = named(counting.network, "reclaimed")
    assert is_free(node)
    assert node.status()["provider"]["closed"].startswith("reclaimed by its owner")
    assert node.mutirao("resume").returncode == 0
    assert not node.status()["provider"]["paused"]


def test_the_provider_that_stopped_broke_no_promise(counting: Counting) -> None:
    assert reached(counting.requester, counting.job, "done")["failed_attempts"][1]["usage_ms"] == 0
