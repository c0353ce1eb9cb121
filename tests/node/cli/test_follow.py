"""Following a job to its end. Spec: specs/rpc.md#command-line."""

import io
import json
import sys
import threading
from contextlib import contextmanager

import pytest
import trio

from node.cli import follow
from node.cli.connection import NO_PEERS, Connection
from node.cli.failure import CliError
from node.cli.follow import LogPrinter, follow_job
from node.cli.progress import Silence

JOB = {"image": "base", "command": ["true"], "max_price": "1"}


class Recording(Silence):
    def __init__(self):
        self.kinds, self.remarks, self.wrote = [], [], b""

    def reach(self, kind, detail):
        self.kinds.append(kind)

    def note(self, line):
        self.remarks.append(line)

    @contextmanager
    def beside_output(self, chunk):
        yield
        self.wrote += chunk


class Gone(io.RawIOBase):
    """A stdout whose reader has left."""

    def __init__(self):
        self.tried = threading.Event()

    def writable(self):
        return True

    def write(self, data):
        self.tried.set()
        raise BrokenPipeError


def test_log_and_events(daemon, capfdbinary):
    node, progress = Connection(daemon.socket), Recording()
    job = node.post("/jobs", JOB)["id"]
    threading.Timer(0.05, daemon.do, [daemon.service.whole_run, job]).start()
    ended = follow_job(node, job, LogPrinter(as_json=False), progress)
    assert ended["phase"] == "done"
    assert progress.kinds == ["announced", "bids", "awarded", "fetching", "running", "done"]
    assert progress.wrote == b"hello from the job\n"
    assert capfdbinary.readouterr().out == b"hello from the job\n"


@pytest.mark.parametrize("peers", [0, 1])
def test_who_waits_alone_hears_once_what_to_do(daemon, monkeypatch, peers):
    known = daemon.service.peers()[:peers]
    monkeypatch.setattr(daemon.service, "peers", lambda: known)
    node, progress = Connection(daemon.socket), Recording()
    job = node.post("/jobs", JOB)["id"]
    for phase in ("queued", "queued", "done"):
        daemon.do(daemon.service.advance, job, phase)
    follow_job(node, job, LogPrinter(as_json=False), progress)
    assert progress.remarks == ([] if peers else [NO_PEERS])


def test_bytes_are_printed_as_they_are(capfdbinary):
    LogPrinter(as_json=False).write(b"\xff\x00\x1b")
    assert capfdbinary.readouterr().out == b"\xff\x00\x1b"


def test_json_does_not_cut_characters(capsys):
    printer = LogPrinter(as_json=True)
    text = "é\n".encode()
    printer.write(text[:1])
    printer.write(text[1:] + b"\xc3")
    printer.end()
    found = [json.loads(line)["log"] for line in capsys.readouterr().out.splitlines()]
    assert "".join(found) == "é\n\ufffd"


def test_a_daemon_that_stops(mortal_daemon):
    node = Connection(mortal_daemon.socket)
    job = node.post("/jobs", JOB)["id"]
    threading.Timer(0.05, mortal_daemon.stop).start()
    with pytest.raises(CliError, match="the daemon stopped") as caught:
        follow_job(node, job, LogPrinter(as_json=False), Silence())
    assert "jobs continue" in caught.value.hint


def test_a_log_that_does_not_end(daemon, monkeypatch):
    async def endless(reference, offset, follow):
        await trio.sleep_forever()
        yield b""

    monkeypatch.setattr(daemon.service, "logs", endless)
    monkeypatch.setattr(follow, "LOG_TAIL_S", 0.05)
    node = Connection(daemon.socket)
    job = node.post("/jobs", JOB)["id"]
    daemon.do(daemon.service.whole_run, job)
    with pytest.raises(CliError, match="the log is incomplete"):
        follow_job(node, job, LogPrinter(as_json=False), Silence())
    assert [thread.name for thread in threading.enumerate()].count("log") == 0


def test_a_reader_of_stdout_that_has_left_before_the_events_are_asked_for(daemon, monkeypatch):
    """Nothing waits yet that the log's thread could interrupt at once."""

    def late(path, after=0):
        assert gone.tried.wait(20)
        while node._open:  # When the log's own connection is closed, its thread has interrupted.
            threading.Event().wait(0.01)
        yield from events(path, after)

    gone = Gone()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(gone, 1)))
    node = Connection(daemon.socket)
    job = node.post("/jobs", JOB)["id"]
    daemon.do(daemon.service.say, job, b"some text")
    events, node.events = node.events, late
    with pytest.raises(BrokenPipeError):
        follow_job(node, job, LogPrinter(as_json=False), Silence())


def test_a_reader_of_stdout_that_leaves(daemon, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(Gone(), 1)))
    node = Connection(daemon.socket)
    job = node.post("/jobs", JOB)["id"]
    daemon.do(daemon.service.say, job, b"some text")
    with pytest.raises(BrokenPipeError):
        follow_job(node, job, LogPrinter(as_json=False), Silence())
