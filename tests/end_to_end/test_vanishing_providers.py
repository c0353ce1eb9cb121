"""Providers that win a job and vanish, and a requester that does: each job ends well all the same.

A frozen provider costs its requester 17 s before the lease is fenced, and a silent requester may be
away for 35 s before its container is paused. So everything happens at once, each to a provider of
its own: the tests then look at what became of each job. The jobs sleep
until the test wakes them, however long all this takes.
Spec: specs/lease.md#requester, specs/core.md#recovery.
"""

import os
import signal
import time
from dataclasses import dataclass, field

import pytest

from scripts.devnet import Devnet, NodeProcess
from tests.end_to_end.fixtures import (
    ENDED,
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
    newest,
    offers_of,
    owner_of,
    processes_with,
    reached,
    receipt_of,
    run,
    sleep_command,
    start,
    until,
)

pytestmark = pytest.mark.timeout(240)

VICTIMS = {"stopped": "0.010", "frozen": "0.011", "killed": "0.012", "crashed": "0.013",
           "fetching": "0.014"}  # fmt: skip
"""Providers with one processor each, and their prices: each takes the next of the jobs."""
FAR = {"provider.region": "oceania", "price.cpu_hour": "0.20"}
"""Of a provider that gets the job of the requester that goes away, and no other."""
INPUT_BYTES = 60_000_000


@dataclass
class Accident:
    """The jobs by the provider that each was on, and what was seen while things happened."""

    network: Devnet
    jobs: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    asleep_since: dict[str, float] = field(default_factory=dict)
    stop_code: int = -1
    stop_s: float = 0
    meanwhile: dict = field(default_factory=dict)
    doubled: list[str] = field(default_factory=list)

    @property
    def requester(self) -> NodeProcess:
        return named(self.network, "requester")

    def node(self, name: str) -> NodeProcess:
        return named(self.network, name)

    def end_of(self, name: str, attempts: int = 2) -> dict:
        """How the job ended that was on a provider; and it must have been there.

        It is woken in its last attempt only: what an earlier one left must go away by itself.
        """

        def end() -> dict | None:
            view = job_of(self.requester, self.jobs[name])
            sleeps = name in self.commands and view["phase"] == "running"
            if sleeps and view["attempts"] == attempts:
                end_sleep(self.commands[name], self.owner(view["provider"]))
            return view if view["phase"] in ENDED else None

        view = until(end, f"the job that was on {name} to end", 90)
        awards = [e for e in events_of(self.requester, view["id"]) if e["kind"] == "awarded"]
        assert self.owner(awards[0]["detail"]["provider"]).name == name
        return view

    def owner(self, peer: str) -> NodeProcess:
        return named(self.network, owner_of(self.network, peer))

    def retries_of(self, name: str) -> list[dict]:
        story = events_of(self.requester, self.jobs[name])
        return [event["detail"] for event in story if event["kind"] == "retry"]


@pytest.fixture(scope="module")
def accident(image, tmp_path_factory):
    settings = {
        name: {"price.cpu_hour": price, "provider.cpus": "1"} for name, price in VICTIMS.items()
    }
    settings |= {name: {"price.cpu_hour": "0.05"} for name in ("solid", "granite")}
    settings |= {"patient": FAR, "away": {"provider.enabled": "false"}}
    with network_of(settings, image) as network:
        accident = Accident(network)
        large = tmp_path_factory.mktemp("input") / "large"
        large.write_bytes(os.urandom(INPUT_BYTES))
        leave_a_job(accident)
        begin_jobs(accident, str(large))
        let_it_happen(accident)
        yield accident
        accident.node("frozen").process.send_signal(signal.SIGCONT)


def leave_a_job(accident: Accident) -> None:
    """Start a job and go away."""
    node, command = accident.node("away"), sleep_command()
    assert node.mutirao("image", "build-base").returncode == 0
    script = f"exec 2>/dev/null; echo begin; {command}; echo end"
    accident.commands["away"] = command
    accident.jobs["away"] = start(node, "--region=oceania", "base", "--", "sh", "-c", script)
    until(lambda: count_sleeping(command) == 1, "the container to sleep")
    node.kill()


def begin_jobs(accident: Accident, large: str) -> None:
    requester = accident.requester
    for name in list(VICTIMS)[:-1]:
        command = sleep_command()
        script = f"exec 2>/dev/null; echo begin; {command}; echo end | tee /out/end"
        accident.commands[name] = command
        accident.jobs[name] = start(requester, "base", "--", "sh", "-c", script)
        until(lambda command=command: count_sleeping(command) == 1, f"{name}'s container to sleep")
        accident.asleep_since[name] = time.monotonic()
    fetch = ("base", "--", "wc", "-c", "/in/large")
    accident.jobs["fetching"] = start(requester, f"--input={large}", *fetch)
    reached(requester, accident.jobs["fetching"], "fetching")


def let_it_happen(accident: Accident) -> None:
    accident.node("fetching").kill()
    accident.node("killed").kill()
    restart_unseen(accident, accident.node("crashed"))
    accident.node("frozen").process.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    accident.stop_code = accident.node("stopped").stop()
    accident.stop_s = time.monotonic() - begin
    accident.doubled = [name for name, command in accident.commands.items()
                        if count_sleeping(command) > 1]  # fmt: skip
    run(accident.requester, "base", "--", "true")
    accident.meanwhile = newest(accident.requester)


def restart_unseen(accident: Accident, provider: NodeProcess) -> None:
    """Crash and restart a daemon while its requester is stopped.

    A daemon that is away for longer than CONFIRM_MS loses its leases, and this machine may be slow.
    """
    accident.requester.process.send_signal(signal.SIGSTOP)
    try:
        provider.kill()
        provider.start()
        provider.wait_ready()
    finally:
        accident.requester.process.send_signal(signal.SIGCONT)


def test_a_provider_that_dies_while_it_fetches_is_replaced(accident):
    view = accident.end_of("fetching")
    assert (view["phase"], view["attempts"]) == ("done", 2)
    assert owner_of(accident.network, view["provider"]) != "fetching"
    assert log_of(accident.requester, view["id"]).split()[0] == str(INPUT_BYTES)
    assert [retry["reason"] for retry in accident.retries_of("fetching")] == ["provider-lost"]


def test_a_provider_that_is_killed_is_replaced(accident):
    view = accident.end_of("killed")
    assert (view["phase"], view["exit_code"], view["attempts"]) == ("done", 0, 2)
    assert [retry["reason"] for retry in accident.retries_of("killed")] == ["provider-lost"]
    assert "and does not answer" in accident.retries_of("killed")[0]["why"]
    assert log_of(accident.requester, view["id"]) == "begin\nend\n", "of the second attempt only"


def test_a_provider_that_stops_gives_its_job_back_at_once(accident):
    assert accident.stop_code == 0, accident.node("stopped").tail()
    assert accident.stop_s < 5
    assert "Traceback" not in accident.node("stopped").log.read_text()
    assert left_behind(accident.node("stopped")) == []
    view = accident.end_of("stopped")
    assert (view["phase"], view["exit_code"], view["attempts"]) == ("done", 0, 2)
    assert [retry["reason"] for retry in accident.retries_of("stopped")] == ["provider-stopped"]


def test_a_daemon_that_crashes_and_restarts_takes_its_container_over(accident):
    awake = time.monotonic()
    view = accident.end_of("crashed", attempts=1)
    assert (view["phase"], view["exit_code"], view["attempts"]) == ("done", 0, 1)
    assert log_of(accident.requester, view["id"]) == "begin\nend\n"
    assert accident.retries_of("crashed") == []
    assert view["usage_ms"] >= (awake - accident.asleep_since["crashed"]) * 1000
    assert accident.doubled == [], "never two containers for one lease"
    provider = accident.node("crashed")
    provider.wait_ready()
    assert provider.peer_id == view["provider"], "its identity is the same"


def test_other_jobs_do_not_wait_for_those_that_are_lost(accident):
    """One provider is still frozen when this job is done."""
    view = accident.meanwhile
    assert (view["phase"], view["attempts"]) == ("done", 1)
    peers = {bid["peer"] for bid in view["bids"]}
    assert accident.node("frozen").peer_id not in peers


def test_a_provider_that_was_frozen_counts_for_nothing_when_it_wakes(accident):
    view = accident.end_of("frozen")
    assert (view["phase"], view["exit_code"], view["attempts"]) == ("done", 0, 2)
    assert [retry["reason"] for retry in accident.retries_of("frozen")] == ["provider-lost"]
    winner, frozen = view["provider"], accident.node("frozen")
    frozen.process.send_signal(signal.SIGCONT)
    until(frozen.status, "the frozen daemon to answer again")
    until(lambda: not processes_with(accident.commands["frozen"]), "its container to be gone")
    until(lambda: is_free(frozen), "its capacity to be free")
    assert job_of(accident.requester, view["id"])["provider"] == winner
    first = events_of(accident.requester, view["id"])
    lease = next(e["detail"]["lease_id"] for e in first if e["kind"] == "awarded")
    assert receipt_of(accident.requester, "requester", lease) is None, "nothing is paid for it"
    until(lambda: frozen.peer_id in offers_of(accident.requester), "its offer to be known again")


def test_a_killed_provider_comes_back_with_all_its_capacity(accident):
    accident.end_of("killed")
    killed = accident.node("killed")
    killed.start()
    killed.wait_ready()
    until(lambda: is_free(killed), "its capacity to be free")
    assert processes_with(accident.commands["killed"]) == []


def test_a_job_waits_for_its_requester_and_goes_on(accident):
    """It was away for longer than its provider works unpaid."""
    provider, away, command = (
        accident.node("patient"),
        accident.node("away"),
        accident.commands["away"],
    )
    until(lambda: "a job of a peer is paused here" in provider.log.read_text(), "the pause", 90)
    assert count_sleeping(command) == 1
    away.start()
    away.wait_ready()
    until(
        lambda: "a job of a peer is resumed here" in provider.log.read_text(), "the job to run", 60
    )
    end_sleep(command)
    view = ended(away, accident.jobs["away"])
    assert (view["phase"], view["exit_code"], view["attempts"]) == ("done", 0, 1)
    assert log_of(away, view["id"]) == "begin\nend\n"
