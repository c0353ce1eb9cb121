"""Jobs that take all they can: they end with a clear reason, and the nodes still answer.

Spec: specs/sandbox.md#limits.
"""

import time

from tests.end_to_end.fixtures import (
    ENDED,
    job_of,
    log_of,
    named,
    owner_of,
    processes_with,
    reached,
    run,
    start,
    until,
)

ANSWER_S = 3
BOMB = "import os\nwhile True: os.fork()"
HOG = "hoard = [b'x' * 2**20 for _ in range(2000)]"


def ended_while_the_nodes_answer(network, requester, job: str, limit_s: float = 60):
    """Wait for the job's end; all that time requester and provider must answer quickly."""
    view = reached(requester, job, "running", "returning", *ENDED)
    provider = named(network, owner_of(network, view["provider"]))
    end = time.monotonic() + limit_s
    while (view := job_of(requester, job))["phase"] not in ENDED:
        assert time.monotonic() < end, view
        for node in (requester, provider):
            begin = time.monotonic()
            assert node.status()["peer_id"] == node.peer_id
            assert time.monotonic() - begin < ANSWER_S
        time.sleep(0.1)
    return view


def test_a_flood_of_log_is_cut_and_the_job_goes_on(requester, network):
    script = "yes | head -c 200000000; echo survived >/out/end"
    job = start(requester, "base", "--", "sh", "-c", script)
    view = ended_while_the_nodes_answer(network, requester, job)
    assert (view["phase"], view["exit_code"]) == ("done", 0)
    assert [each["path"] for each in requester.api.get(f"/jobs/{job}/outputs")] == ["end"]
    log = log_of(requester, job)
    assert 15 * 2**20 < len(log) <= 17 * 2**20
    assert log.startswith("y\ny\n")
    assert set(log[-200:]) - {"y", "\n"}, "the log says that it was cut"


def test_a_fork_bomb_stays_in_its_container(requester, network):
    job = start(requester, "--timeout=20s", "base", "--", "python3", "-c", BOMB)
    view = ended_while_the_nodes_answer(network, requester, job)
    assert view["phase"] == "done"
    # Which of the job's limits is reached first depends on how fast its processes get their turn.
    if view["reason"] not in ("time-out", "out-of-memory"):
        assert view["exit_code"] == 1
        assert "BlockingIOError" in log_of(requester, job)
    until(lambda: not processes_with("while True: os.fork()"), "no process of it to be left")


def test_a_memory_hog_is_killed_and_told_so(requester, network):
    job = start(requester, "--memory=64M", "base", "--", "python3", "-c", HOG)
    view = ended_while_the_nodes_answer(network, requester, job)
    assert view["phase"] == "done"
    assert view["exit_code"] not in (0, None)
    assert view["reason"] == "out-of-memory" or "MemoryError" in log_of(requester, job)


def test_files_fill_the_jobs_own_disk_only(requester, network):
    script = "head -c 100000000 /dev/zero >/tmp/big; ls -l /tmp >&2; exit 4"
    ran = run(requester, "--disk=16M", "--memory=64M", "base", "--", "sh", "-c", script, code=4)
    assert "No space left" in ran.stdout
