"""Commands about jobs that were submitted. Spec: specs/rpc.md#command-line."""

import signal
import time

import pytest

from node.cli.connection import Connection
from node.rpc.job_views import BidView, CheckpointView, FailedAttemptView, QueueView
from tests.node.cli.conftest import start_cli
from tests.node.rpc.recorded import PEER


@pytest.fixture
def job(daemon):
    body = {"image": "base", "command": ["sh", "-c", "a b"], "max_price": "1", "name": "n"}
    return Connection(daemon.socket).post("/jobs", body)["id"]


@pytest.fixture
def done(daemon, job):
    daemon.do(daemon.service.whole_run, job)
    return job


def test_jobs(cli, daemon, done):
    line = cli("jobs").out.splitlines()[1]
    assert line.startswith(done[:12])
    assert line.endswith("sh -c 'a b'")
    assert cli("jobs", "--json").lines[0]["id"] == done
    assert cli("jobs", "--before", done, "--json").lines == []
    assert cli("jobs", "--limit", "0").code == 2


def test_a_long_command_is_cut_so_that_one_sees_it(cli, daemon):
    body = {"image": "base", "command": ["x" * 50], "max_price": "1"}
    Connection(daemon.socket).post("/jobs", body)
    assert cli("jobs").out.endswith(f" {'x' * 39}…\n")


def test_show(cli, done):
    text = cli("show", done[:6]).out
    assert "steps      announce 500 ms, award 20 ms, start 180 ms, run 2.5 s" in text
    assert "price      0.5000 credits an hour" in text
    assert "BID OF" in text
    assert cli("show", done, "--json").json["exit_code"] == 0


def test_show_of_attempts_that_failed(cli, daemon, job):
    attempts = (FailedAttemptView(1, PEER, "time-out", "it took too long", 2500, "0.01"),
                FailedAttemptView(2, None, "no-bids", "nobody bids", 0, "0.000000000"))  # fmt: skip
    daemon.do(lambda: daemon.service.advance(job, "failed", cost="0.01", failed_attempts=attempts))
    text = cli("show", job).out
    assert "nobody bids" in text
    assert "cost       0.01 credits in all\n" in text
    assert f"1                   …{PEER[-8:]}  2.5 s  0.01         it took too long\n" in text
    assert "2                   -          -      0.000000000  nobody bids\n" in text


def test_a_reason_is_said_once(cli, daemon, job):
    attempts = (FailedAttemptView(1, PEER, "time-out", "it took too long", 2500, "0.01"),
                FailedAttemptView(2, None, "no-bids", "nobody bids", 0, "0.000000000"))  # fmt: skip
    failed = {"reason": "no-bids", "why": "nobody bids", "failed_attempts": attempts}
    daemon.do(lambda: daemon.service.advance(job, "failed", **failed))
    text = cli("show", job).out
    assert text.count("nobody bids") == 1
    assert "why        nobody bids\n" in text
    assert text.endswith("0.000000000  as above\n")


def test_the_checkpoint(cli, daemon, job):
    now_ms = int(time.time() * 1000)
    kept = CheckpointView(3, now_ms - 3_600_000, 3 << 20)
    view = {"checkpoint": kept, "resumes_from": 2, "stops_ms": None}
    daemon.do(lambda: daemon.service.advance(job, "running", **view))
    text = cli("show", job).out
    assert "continued from  checkpoint 2\n" in text
    assert "checkpoint      3, 3.0 MiB, 1 h 0 min old\n" in text
    daemon.do(lambda: daemon.service.advance(job, "running", stops_ms=now_ms))
    assert "old; its provider stops, and the job continues from it\n" in cli("show", job).out
    daemon.do(lambda: daemon.service.advance(job, "running", checkpoint=None))
    assert "checkpoint      none; its provider stops\n" in cli("show", job).out


def test_the_place_in_the_queue(cli, daemon, job):
    until_ms, soon_ms = 1_800_000_000_000, int(time.time() * 1000) + 40_000
    why = "no bids: 4 providers are busy"
    place = QueueView(3, 20, why, soon_ms, until_ms)
    daemon.do(lambda: daemon.service.advance(job, "queued", reason="no-bids", why=why, queue=place))
    assert f"3 of 20: {why}; calls again in " in cli("jobs").out
    text = cli("show", job).out
    assert "queue      3 of 20; calls again in " in text
    assert "; until 2027-01-15 08:00:00Z\n" in text
    assert text.count(why) == 1


@pytest.mark.parametrize(
    "bids,price",
    [
        (
            [("0.5000", True)],
            "1.0000 credits an hour (the only bidder: the most that the call pays)",
        ),
        ([("1.0000", True)], "1.0000 credits an hour (the only bidder)"),
        ([("0.5000", True), ("1.0000", True)], "1.0000 credits an hour"),
    ],
)
def test_what_set_the_price(cli, daemon, job, bids, price):
    views = tuple(BidView(PEER, ask, eligible) for ask, eligible in bids)
    daemon.do(lambda: daemon.service.advance(job, "awarded", price_hour="1.0000", bids=views))
    assert f"price      {price}\n" in cli("show", job).out


@pytest.mark.parametrize("command", [["show"], ["logs"], ["cancel"], ["outputs"]])
def test_an_unknown_job(cli, command):
    arguments = [*command, "abcdef"] + (["dir"] if command == ["outputs"] else [])
    failed = cli(*arguments)
    assert (failed.code, failed.out) == (4, "")
    assert failed.err == "error: no job 'abcdef' here; see `mutirao jobs`\n"
    assert cli(*arguments, "--json").err.startswith('{"error": {"code": "not-found"')


def test_logs(cli, daemon, done):
    assert cli("logs", done).out == "hello from the job\n"
    assert cli("logs", done, "--offset", "6").out == "from the job\n"
    assert cli("logs", done, "--json").lines == [{"log": "hello from the job\n"}]


def test_logs_follow(daemon, job):
    daemon.do(daemon.service.say, job, b"one\n")
    process = start_cli("logs", "-f", job, socket=daemon.socket)
    assert process.stdout.readline() == b"one\n"
    daemon.do(daemon.service.whole_run, job)
    rest, err = process.communicate()
    assert (rest, err, process.returncode) == (b"hello from the job\n", b"", 0)


def test_ctrl_c_leaves_the_log_of_a_job_that_goes_on(daemon, job):
    daemon.do(daemon.service.say, job, b"one\n")
    process = start_cli("logs", "-f", job, socket=daemon.socket)
    assert process.stdout.readline() == b"one\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert f"the job continues; cancel it with `mutirao cancel {job}`" in err.decode()
    assert daemon.service.jobs_by_id[job].phase == "announced"


def test_logs_of_a_daemon_that_stops(mortal_daemon, tmp_path):
    body = {"image": "base", "command": ["true"], "max_price": "1"}
    job = Connection(mortal_daemon.socket).post("/jobs", body)["id"]
    mortal_daemon.do(mortal_daemon.service.say, job, b"one\n")
    process = start_cli("logs", "-f", job, socket=mortal_daemon.socket)
    assert process.stdout.readline() == b"one\n"
    mortal_daemon.stop()
    _, err = process.communicate()
    assert process.returncode == 3
    assert err.startswith(b"error: the daemon stopped\n  jobs continue")


def test_cancel(cli, job):
    assert cli("cancel", job[:6]).err == f"job {job[:12]}: cancelled: nothing to pay\n"
    assert cli("cancel", job, "--json").json["phase"] == "cancelled"


def test_cancel_of_a_job_whose_provider_has_not_let_it_go_yet(cli, daemon, job, monkeypatch):
    async def cancel(reference):
        daemon.service.advance(job, "cancelling")
        return await daemon.service.get(reference)

    monkeypatch.setattr(daemon.service, "cancel", cancel)
    said = cli("cancel", job).err
    assert said.startswith(f"job {job[:12]}: cancelling; `mutirao show {job[:12]}` shows")


def test_cancel_of_a_job_that_ended(cli, done):
    assert "had ended already: done" in cli("cancel", done).err


def test_outputs(cli, done, tmp_path):
    assert cli("outputs", done, "out").out == "out/result/answer.txt\n"
    assert (tmp_path / "out" / "result" / "answer.txt").read_text() == "42\n"
    assert cli("outputs", done, "out", "--json").lines[0]["size"] == 3


def test_no_outputs(cli, job):
    assert cli("outputs", job, "out").err == "the job has no output files\n"


def test_retry_is_a_command_and_an_index_is_written_both_ways(cli):
    assert "of an array, only such jobs" in cli("retry", "--help").out
    for reference in ("3f9a0c/17", "3f9a0c[17]"):
        found = cli("show", reference)
        assert (found.code, "'3f9a0c[17]'" in found.err) == (4, True)
    assert "'3f9a0c[17]'" in cli("jobs", "3f9a0c/17").err
