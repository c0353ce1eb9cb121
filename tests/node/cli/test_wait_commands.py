"""Waiting for jobs and arrays. Spec: specs/rpc.md#command-line."""

import signal

import pytest

from node.cli.connection import Connection
from tests.node.cli.conftest import start_cli

JOB = {"image": "base", "command": ["x"]}


@pytest.fixture
def ids(daemon):
    """A job, and an array of two jobs."""
    node = Connection(daemon.socket)
    return node.post("/jobs", JOB)["id"], node.post("/jobs", JOB | {"array": "0-1"})["id"]


def end(daemon, ids, job_code, *member_codes):
    job, array = ids
    daemon.do(daemon.service.whole_run, job, job_code)
    for index, code in enumerate(member_codes):
        daemon.do(daemon.service.end_member, array, index, code)


@pytest.mark.parametrize("codes,code", [((0, 0, 0), 0), ((3, 0, 0), 1), ((0, 0, 3), 1)])
def test_the_exit_code_says_whether_all_succeeded(cli, daemon, ids, codes, code):
    end(daemon, ids, *codes)
    found = cli("wait", *ids)
    assert (found.code, found.out) == (code, "")
    assert f"job {ids[0][:12]}: done: exit code {codes[0]}" in found.err
    assert f"array {ids[1][:12]}: " in found.err


def test_it_waits_for_the_end(daemon, ids):
    process = start_cli("wait", ids[1], ids[0], "--json", socket=daemon.socket)
    assert b"members" in process.stdout.readline()
    assert process.poll() is None
    end(daemon, ids, 0, 0, 0)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert ids[0].encode() in out.splitlines()[-1]


def test_ctrl_c_leaves_the_jobs_as_they_are(daemon, ids):
    process = start_cli("wait", ids[1], socket=daemon.socket)
    assert b"0 of 2 done" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert b"the jobs continue" in err
    assert {member.phase for member in daemon.service.arrays[ids[1]]} == {"queued"}


def test_a_wrong_id_is_told_before_it_waits(cli, ids):
    found = cli("wait", ids[0], "abcdef/3")
    assert (found.code, found.err) == (4, "error: no job 'abcdef[3]' here; see `mutirao jobs`\n")
