"""Jobs while they run: followed, looked at, cancelled, submitted once for all.

Spec: specs/rpc.md#command-line.
"""

import signal
import subprocess

import pytest

from tests.end_to_end.fixtures import (
    count_sleeping,
    end_sleep,
    ended,
    is_free,
    job_of,
    log_of,
    named,
    newest,
    offers_of,
    owner_of,
    processes_with,
    reached,
    refused,
    run,
    sleep_command,
    start,
    until,
)

QUIET = "exec 2>/dev/null;"
"""Begins a script whose shell does not say that its sleep was ended."""


@pytest.fixture
def following():
    """Starts a command that follows a job, beside the test."""
    processes = []

    def begin(node, *arguments) -> subprocess.Popen:
        process = subprocess.Popen(
            **node.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_run_prints_each_line_when_it_is_written(requester, following):
    command = sleep_command()
    script = f"{QUIET} echo one; {command}; echo two"
    process = following(requester, "run", "base", "--", "sh", "-c", script)
    assert process.stdout.readline() == b"one\n"
    assert newest(requester)["phase"] == "running"
    until(lambda: end_sleep(command), "the job to be woken")
    assert process.stdout.readline() == b"two\n"
    assert process.wait(20) == 0


def test_a_job_file_is_submitted_and_all_commands_know_the_job(requester, tmp_path):
    command = sleep_command()
    script = f"{QUIET} cat /in/in.txt; echo $WORD; {command}; cp /in/in.txt /out/o.txt"
    (tmp_path / "in.txt").write_text("input\n")
    (tmp_path / "job.toml").write_text(
        'name = "filed"\nimage = "base"\ninputs = ["in.txt"]\nmax_price = "0.5"\n'
        f'command = ["sh", "-c", "{script}"]\n'
        '[env]\nWORD = "said"\n[resources]\nmemory = "128M"\noutput = "1M"\n'
    )
    submitted = requester.mutirao("submit", str(tmp_path / "job.toml"))
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.strip()
    assert len(job) == 32

    until(lambda: end_sleep(command), "the job to be woken")
    log = requester.mutirao("logs", "-f", job[:8])
    assert log.stdout == "input\nsaid\n"
    ended(requester, job)
    assert "filed" in requester.mutirao("jobs").stdout
    shown = requester.mutirao("show", job[:8]).stdout
    for word in (job, "done", "signed by both", "CREDITS/H", "in.txt"):
        assert word in shown
    fetched = requester.mutirao("outputs", job, str(tmp_path / "result"))
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "result/o.txt").read_text() == "input\n"


def test_submit_follow_is_like_run(requester, tmp_path):
    (tmp_path / "job.toml").write_text('image = "base"\ncommand = ["sh", "-c", "echo x; exit 3"]\n')
    ran = requester.mutirao("submit", "--follow", str(tmp_path / "job.toml"))
    assert (ran.returncode, ran.stdout) == (3, "x\n")


def test_a_log_can_be_followed_from_the_middle(requester, following):
    command = sleep_command()
    job = start(requester, "base", "--", "sh", "-c", f"{QUIET} echo 12345; {command}; echo 6")
    reached(requester, job, "running")
    process = following(requester, "logs", "-f", "--offset=3", job)
    assert process.stdout.readline() == b"45\n"
    until(lambda: end_sleep(command), "the job to be woken")
    assert process.stdout.read() == b"6\n"
    assert process.wait(20) == 0
    assert requester.mutirao("logs", job).stdout == "12345\n6\n"


def test_detach_returns_before_the_job_runs(requester):
    job = start(requester, "base", "--", "echo", "later")
    assert ended(requester, job)["exit_code"] == 0
    assert log_of(requester, job) == "later\n"


def test_cancel_ends_the_container_and_frees_the_provider(requester, network):
    command = sleep_command()
    job = start(requester, "base", "--", *command.split())
    view = reached(requester, job, "running")
    provider = named(network, owner_of(network, view["provider"]))
    until(lambda: count_sleeping(command) == 1, "the container to sleep")
    assert not is_free(provider)

    cancelled = requester.mutirao("cancel", job)
    assert cancelled.returncode == 0, cancelled.stderr
    view = ended(requester, job)
    assert (view["phase"], view["reason"]) == ("cancelled", "cancelled")
    until(lambda: not processes_with(command), "bwrap and what runs in it to be gone")
    until(lambda: is_free(provider), "the provider's capacity to be free")
    again = requester.mutirao("cancel", job)
    assert again.returncode == 0, again.stderr


def test_run_says_that_its_job_was_cancelled_elsewhere(requester, following):
    command = sleep_command()
    process = following(requester, "run", "base", "--", *command.split())
    until(lambda: count_sleeping(command), "the container to sleep")
    requester.mutirao("cancel", newest(requester)["id"])
    _, said = process.communicate(timeout=20)
    assert process.returncode == 6, said
    assert b"cancelled" in said
    assert b"Traceback" not in said


def test_ctrl_c_in_run_cancels_the_job(requester, following):
    command = sleep_command()
    process = following(requester, "run", "base", "--", *command.split())
    until(lambda: count_sleeping(command), "the container to sleep")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert ended(requester, newest(requester)["id"])["phase"] == "cancelled"
    until(lambda: not processes_with(command), "the container to be gone")
    assert b"Traceback" not in said


def test_a_job_cancelled_before_it_is_awarded_never_runs(requester):
    command = sleep_command()
    job = start(requester, "base", "--", *command.split())
    requester.api.post(f"/jobs/{job}/cancel")
    view = ended(requester, job)
    assert view["phase"] == "cancelled"
    until(lambda: not processes_with(command), "no container")


def test_the_same_key_is_the_same_job(requester):
    arguments = ("--key=once", "base", "--", "echo", "1")
    first = start(requester, *arguments)
    assert start(requester, *arguments) == first
    assert ended(requester, first)["phase"] == "done"
    assert start(requester, *arguments) == first
    assert run(requester, *arguments).stdout == "1\n"
    refused(
        requester, "run", "--key=once", "base", "--", "echo", "2",
        code=5, saying="idempotency key",
    )  # fmt: skip


def test_the_time_out_ends_a_job(requester):
    command = sleep_command()
    run(requester, "--timeout=1s", "base", "--", *command.split(), code=137)
    view = newest(requester)
    assert view["reason"] == "time-out"
    assert "time-out of 1 s" in view["why"]
    until(lambda: not processes_with(command), "the container to be gone")


def test_run_says_that_the_time_out_ended_the_job(requester):
    ran = run(requester, "--timeout=1s", "base", "--", "sleep", "60", code=137)
    assert "time-out of 1 s" in ran.stderr


def test_status_counts_jobs_and_offers_are_those_of_all(requester, network):
    view = requester.status()
    assert view["jobs"]["running"] == 0
    assert view["peers"] >= 4
    assert set(offers_of(requester)) == {node.peer_id for node in network.nodes}
    job = start(requester, "base", "--", *sleep_command().split())
    reached(requester, job, "running")
    assert requester.status()["jobs"]["running"] == 1
    requester.mutirao("cancel", job)
    ended(requester, job)
    assert requester.status()["jobs"]["running"] == 0
    assert job_of(requester, job)["phase"] == "cancelled"
