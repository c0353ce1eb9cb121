"""A job in the foreground, to its end or to the one that Ctrl-C gives it.

Spec: specs/rpc.md#command-line.
"""

import signal

import pytest

from node.cli.attach import summary
from tests.node.cli.conftest import start_cli

RUN = ["run", "--max-price", "1", "base", "--", "x"]


def read_until(process, wanted: bytes) -> None:
    while wanted not in (line := process.stderr.readline()):
        assert line, f"never said {wanted!r}"


@pytest.mark.parametrize(
    "view,line",
    [
        ({"phase": "done", "exit_code": 0, "usage_ms": 2500, "amount": "0.01"},
         "done: exit code 0, ran 2.5 s, paid 0.01 credits"),
        ({"phase": "done", "exit_code": 137, "reason": "timeout", "why": "over its time"},
         "done: exit code 137 (over its time), nothing to pay"),
        ({"phase": "cancelled", "usage_ms": 2500, "cost": "0.01"},
         "cancelled: ran 2.5 s, paid 0.01 credits"),
        ({"phase": "cancelled"}, "cancelled: nothing to pay"),
    ],
)  # fmt: skip
def test_summaries(view, line):
    unsaid = dict.fromkeys(("exit_code", "usage_ms", "amount", "cost", "reason", "why"))
    assert summary(unsaid | view) == line


@pytest.fixture
def slow_cancel(daemon, monkeypatch):
    """A node whose provider is slow to let a job go: it is cancelled when the test says so."""

    async def cancel(reference):
        return await daemon.service.get(reference)

    monkeypatch.setattr(daemon.service, "cancel", cancel)


@pytest.fixture
def process(daemon):
    process = start_cli(*RUN, socket=daemon.socket)
    read_until(process, b"announced")
    yield process
    process.kill()
    process.communicate()


def test_ctrl_c_waits_for_the_end_and_says_what_it_cost(daemon, slow_cancel, process):
    process.send_signal(signal.SIGINT)
    read_until(process, b"cancelling the job")
    (job_id,) = daemon.service.jobs_by_id
    daemon.do(lambda: daemon.service.advance(job_id, "cancelled", usage_ms=2500, cost="0.02"))
    out, err = process.communicate()
    assert (process.returncode, out) == (130, b"")
    last = err.decode().splitlines()[-1]
    assert last == f"job {job_id[:12]}: cancelled: ran 2.5 s, paid 0.02 credits"


def test_a_second_ctrl_c_leaves_at_once_and_says_how_to_look(daemon, slow_cancel, process):
    process.send_signal(signal.SIGINT)
    read_until(process, b"cancelling the job")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    (job_id,) = daemon.service.jobs_by_id
    assert process.returncode == 130
    assert f"see `mutirao show {job_id[:12]}`" in err.decode().splitlines()[-1]
    assert daemon.service.jobs_by_id[job_id].phase == "announced"


def test_a_job_that_ends_while_it_is_cancelled(daemon, slow_cancel, process):
    process.send_signal(signal.SIGINT)
    read_until(process, b"cancelling the job")
    (job_id,) = daemon.service.jobs_by_id
    daemon.do(daemon.service.finish, job_id)
    _, err = process.communicate()
    assert process.returncode == 130
    assert b"done: exit code 0, ran 2.5 s, paid 0.000347222 credits" in err


def test_the_job_as_it_ended_is_the_last_line_of_json(daemon):
    process = start_cli("run", "--json", *RUN[1:], socket=daemon.socket)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, err) == (130, b"")
    assert b'"phase": "cancelled"' in out.splitlines()[-1]
