"""A gang over real processes: all members run at once, and one that is lost is replaced.

Spec: specs/gangs.md.
"""

import json
import os
import signal

import pytest

from tests.end_to_end.fixtures import (
    count_sleeping,
    end_sleep,
    is_free,
    job_of,
    named,
    network_of,
    newest,
    owner_of,
    refused,
    run,
    sleep_command,
    start,
    until,
)

pytestmark = pytest.mark.timeout(180)
PROVIDERS = {"one": "europe", "two": "africa", "three": ""}
"""Each lends two processors: without one of them there is still room for a gang of four. One states
no region."""


@pytest.fixture(scope="module")
def network(image):
    settings = {
        name: {"provider.cpus": "2"} | ({"provider.region": region} if region else {})
        for name, region in PROVIDERS.items()
    }
    with network_of(settings, image) as found:
        yield found


@pytest.fixture
def requester(network):
    return named(network, "requester")


def members_of(node, gang):
    return node.api.get(f"/jobs/{gang}/members")


def test_the_members_of_a_gang_know_their_rank_and_each_other(requester, tmp_path):
    script = 'echo "$MUTIRAO_RANK of $MUTIRAO_NODES" | tee /out/rank; echo "$MUTIRAO_MEMBERS"'
    ran = run(
        requester, "--nodes=4", f"--output={tmp_path}/result", "base", "--", "sh", "-c", script
    )
    said, members = ran.stdout.splitlines()
    assert said == "0 of 4", "in the foreground, the log is that of member 0"
    known = json.loads(members)
    assert len(known) == 4
    assert all(address.startswith("/ip") for one in known for address in one["addresses"])
    for rank in range(4):
        assert (tmp_path / f"result/{rank}/rank").read_text() == f"{rank} of 4\n"
    assert "4 of 4 done" in ran.stderr


def test_a_frozen_provider_is_replaced_and_all_members_start_again(network, requester):
    sleep = sleep_command()
    gang = start(requester, "--nodes=4", "base", "--", "sh", "-c", f"{sleep}; true")
    until(lambda: count_sleeping(sleep) == 4, "all members to run", 30)
    first = members_of(requester, gang)[0]["id"]
    victim = named(network, owner_of(network, job_of(requester, first)["provider"]))
    assert victim.process is not None
    os.kill(victim.process.pid, signal.SIGSTOP)
    try:
        until(lambda: job_of(requester, first)["failed_attempts"], "the gang to be stopped", 60)
    finally:
        os.kill(victim.process.pid, signal.SIGCONT)
    ids = [member["id"] for member in members_of(requester, gang)]

    def run_again() -> bool:
        views = [job_of(requester, member) for member in ids]
        return all((view["phase"], view["attempts"]) == ("running", 2) for view in views)

    until(run_again, "all members to run again", 60)
    until(lambda: count_sleeping(sleep) == 4, "those of the first attempt to be gone", 30)
    end_sleep(sleep)
    until(lambda: job_of(requester, gang)["phase"] == "done", "the gang to be done", 60)
    assert [member["exit_code"] for member in members_of(requester, gang)] == [0] * 4


def test_cancelling_one_member_cancels_all(network, requester):
    sleep = sleep_command()
    gang = start(requester, "--nodes=3", "base", "--", *sleep.split())
    until(lambda: count_sleeping(sleep) == 3, "all members to run", 30)
    assert requester.mutirao("cancel", f"{gang}/1").returncode == 0
    until(lambda: job_of(requester, gang)["phase"] == "cancelled", "the gang to be cancelled", 60)
    assert count_sleeping(sleep) == 0
    until(lambda: all(is_free(named(network, name)) for name in PROVIDERS), "all to be free")


def test_members_run_only_if_they_measure_short_round_trips(network, requester):
    asks_once = ("--queue-timeout=0", "--retries=0")
    ran = requester.mutirao(
        "run", "--nodes=4", "--max-round-trip=1us", *asks_once, "base", "--", "true"
    )
    assert ran.returncode != 0
    assert "the round trip between" in ran.stderr
    assert "ms; the job wants at most 0.001 ms" in ran.stderr
    first = members_of(requester, newest(requester)["id"])[0]["id"]
    assert job_of(requester, first)["reason"] == "too-far"
    until(lambda: all(is_free(named(network, name)) for name in PROVIDERS), "all to be free")
    near = run(requester, "--nodes=4", "--max-round-trip=20s", "base", "--", "echo", "near")
    assert near.stdout == "near\n"
    assert "4 of 4 done" in near.stderr


def test_members_run_in_regions_of_their_own(network, requester):
    gang = start(requester, "--nodes=2", "--spread-regions", "base", "--", "true")
    until(lambda: job_of(requester, gang)["phase"] == "done", "the gang to be done", 60)
    members = [job_of(requester, member["id"]) for member in members_of(requester, gang)]
    where = {owner_of(network, member["provider"]) for member in members}
    assert where == {"one", "two"}
    for more in (("--dry-run",), ("--queue-timeout=0",)):
        ran = requester.mutirao("run", "--nodes=3", "--spread-regions", *more, "base", "--", "true")
        assert ran.returncode != 0
        said = ran.stdout + ran.stderr
        assert "they are in 2 of the 3 regions that it needs" in said
        assert "1 states no region" in said
    refused(
        requester, "run", "--nodes=2", "--spread-regions", "--same-region", "base", "--", "true",
        code=5, saying="it contradicts",
    )  # fmt: skip


def test_a_gang_that_is_too_large_or_an_array_of_gangs_is_explained(requester):
    ran = requester.mutirao("run", "--nodes=9", "--queue-timeout=0", "base", "--", "true")
    assert ran.returncode != 0
    assert "they have 6 of the 9 slots that it needs at once" in ran.stderr
    refused(
        requester, "run", "--nodes=2", "--array=0-3", "base", "--", "true",
        code=5, saying="an array of gangs does not exist",
    )  # fmt: skip
    refused(requester, "run", "--nodes=100", "base", "--", "true", code=2, saying="--nodes")
