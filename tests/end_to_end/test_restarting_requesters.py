"""A requester that dies or stops while its jobs are somewhere: it comes back, and they end well.

Spec: specs/core.md#recovery.
"""

import pytest

from tests.end_to_end.fixtures import (
    count_sleeping,
    end_sleep,
    ended,
    events_of,
    job_of,
    lease_of,
    log_of,
    named,
    network_of,
    offers_of,
    processes_with,
    reached,
    receipt_of,
    run,
    sleep_command,
    start,
    until,
)


@pytest.fixture(scope="module")
def small(image):
    prices = {"ana": "0.01", "bruno": "0.02"}
    settings = {name: {"price.cpu_hour": price} for name, price in prices.items()}
    with network_of(settings, image) as network:
        yield network


def napping() -> tuple[str, str]:
    """A script that says something before and after it sleeps, and the sleep that a test ends."""
    command = sleep_command()
    return f"exec 2>/dev/null; echo begin; {command}; echo end; echo kept >/out/kept", command


def restart(node) -> None:
    """Start a node that is dead; it must be who it was, where it was."""
    before = (node.peer_id, node.address)
    node.start()
    node.wait_ready()
    assert (node.peer_id, node.address) == before


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_job_outlives_its_requesters_daemon(small, how, tmp_path):
    requester = named(small, "requester")
    earlier = [job["id"] for job in requester.api.get("/jobs")]
    script, command = napping()
    job = start(requester, "base", "--", "sh", "-c", script)
    reached(requester, job, "running")
    until(lambda: count_sleeping(command) == 1, "the container to sleep")
    if how == "killed":
        requester.kill()
    else:
        assert requester.stop() == 0
    restart(requester)
    assert count_sleeping(command) == 1
    assert [each["id"] for each in requester.api.get("/jobs")] == [job, *earlier]
    end_sleep(command)
    view = ended(requester, job)
    assert (view["phase"], view["exit_code"], view["attempts"]) == ("done", 0, 1)
    assert log_of(requester, job) == "begin\nend\n"
    fetched = requester.mutirao("outputs", job, str(tmp_path / "result"))
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "result/kept").read_text() == "kept\n"


def test_a_job_that_ended_meanwhile_is_fetched_later(small):
    requester = named(small, "requester")
    script, command = napping()
    job = start(requester, "base", "--", "sh", "-c", script)
    until(lambda: count_sleeping(command) == 1, "the container to sleep")
    requester.kill()
    end_sleep(command)
    until(lambda: not processes_with(command), "the container to end while nobody is there")
    restart(requester)
    view = ended(requester, job)
    assert (view["phase"], view["attempts"]) == ("done", 1)
    assert log_of(requester, job) == "begin\nend\n"


def test_a_job_is_not_lost_when_its_requester_dies_at_once(small):
    requester = named(small, "requester")
    script, command = napping()
    job = start(requester, "base", "--", "sh", "-c", script)
    requester.kill()
    restart(requester)
    until(lambda: end_sleep(command), "the container to sleep, and to be woken", 60)
    view = ended(requester, job)
    assert (view["phase"], view["exit_code"]) == ("done", 0)
    assert log_of(requester, job) == "begin\nend\n"
    until(lambda: not processes_with(command), "no container to be left")


@pytest.mark.parametrize(
    "killed",
    [("requester",), ("ana",), ("requester", "ana")],
    ids=["requester", "provider", "both"],
)
def test_each_job_of_an_array_runs_and_is_delivered_once_whoever_dies(small, killed, tmp_path):
    requester, size = named(small, "requester"), 12
    script = "echo $MUTIRAO_ARRAY_INDEX >>/out/started; sleep 0.3"
    array = start(requester, f"--array=0-{size - 1}", "base", "--", "sh", "-c", script)
    until(lambda: 3 <= job_of(requester, array)["done"] < size, "a part of the array to be done")
    for name in killed:
        named(small, name).kill()
    for name in killed:
        restart(named(small, name))
    waited = requester.mutirao("wait", array)
    assert (waited.returncode, f"{size} of {size} done" in waited.stderr) == (0, True)

    members = requester.api.get(f"/jobs/{array}/members")
    for member in members:
        kinds = [event["kind"] for event in events_of(requester, member["id"])]
        assert kinds.count("done") == 1, kinds
        assert kinds[-1] == "done", kinds
    fetched = requester.mutirao("outputs", array, str(tmp_path))
    assert fetched.returncode == 0, fetched.stderr
    started = [(tmp_path / f"{index}/started").read_text() for index in range(size)]
    assert started == [f"{index}\n" for index in range(size)], "each container starts once"
    leases = [lease_of(requester, member["id"]) for member in members]
    receipts = [receipt_of(requester, "requester", lease) for lease in leases]
    assert [receipt.amount for receipt in receipts] == [member["paid"] for member in members]


def test_a_bootstrap_node_that_comes_back_is_found_by_the_others(small):
    bootstrap = named(small, "requester")
    bootstrap.kill()
    restart(bootstrap)
    until(lambda: bootstrap.status()["peers"] == 2, "the others to reconnect", 40)
    until(lambda: len(offers_of(bootstrap)) == 3, "it to know their offers again", 40)
    run(bootstrap, "base", "--", "true")


def test_history_survives_and_what_is_paid_too(small):
    requester = named(small, "requester")
    run(requester, "base", "--", "sleep", "0.2")
    jobs, spent = requester.api.get("/jobs"), requester.status()["spent"]
    assert float(spent) > 0
    requester.kill()
    restart(requester)
    assert requester.api.get("/jobs") == jobs
    assert requester.status()["spent"] == spent
