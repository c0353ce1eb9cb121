"""The engine's socket, with an engine made of a thread; a real one is in test_docker_driver.py.

Spec: specs/sandbox.md#docker-driver.
"""

# ruff: noqa: PTH108

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from node.sandbox.runner import engine, restore
from node.sandbox.runner.cgroups import Group
from node.sandbox.runner.container import StartFailed
from node.sandbox.runner.records import Fields


def serve(path, answers, asked):
    """Answer each connection by the first word of `answers` that its request line has."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def loop():
        while True:
            try:
                sock = listener.accept()[0]
            except OSError:
                return
            with sock:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += sock.recv(4096)
                asked.append(head.split(b"\r\n")[0].decode())
                try:
                    sock.sendall(next(v for k, v in answers.items() if k in asked[-1]))
                except BrokenPipeError:
                    continue  # The test is over.

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    return listener, thread


@pytest.fixture
def fields(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Fields([("socket", "engine.sock"), ("name", "mutirao-1"), ("out", str(tmp_path))])


def answer(status, body=b"{}"):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
        status, len(body), body)  # fmt: skip


ANSWERS = {
    "/attach": b"HTTP/1.1 101 UPGRADED\r\n\r\n\x01\0\0\0\0\0\0\x05hello\x02\0\0\0\0\0\0\x01!",
    "/start": b"HTTP/1.1 204 No Content\r\n\r\n",
    "/wait": b"HTTP/1.0 200 OK\r\n\r\n" + b'{"StatusCode":3}\n',
    "/kill": b"HTTP/1.1 204 No Content\r\n\r\n",
    "/json": answer(b"200 OK", b'{"State":{"OOMKilled":true,"Pid":0}}'),
}


def test_a_container_is_started_and_followed(fields):
    asked = []
    listener, thread = serve("engine.sock", ANSWERS, asked)
    container = engine.start(fields)
    assert [line.split()[1].rpartition("/")[2].split("?")[0] for line in asked[:3]] == [
        "attach", "start", "json"]  # fmt: skip
    log = b""
    while (piece := container.read_log()) is not None:
        log += piece
    assert log == b"hello!"
    while container.exit_code() is None:
        assert container.code is None
    assert container.exit_code() == 3
    assert container.usage().out_of_memory
    container.kill()
    assert os.path.samestat(os.fstat(container.outputs()), Path(fields.one("out")).stat())
    close(container, listener, thread)


class Late(dict):
    """An engine that knows why a container ended only when it is asked for the fourth time."""

    asked: list[str]

    def items(self):
        if sum("/json" in line for line in self.asked) > 3:
            self["/json"] = ANSWERS["/json"]
        return super().items()


@pytest.mark.parametrize("by_us", [False, True])
def test_the_engine_is_asked_again_whether_memory_ended_a_container_unless_we_did(fields, by_us):
    unknown = answer(b"200 OK", b'{"State":{"OOMKilled":false,"Pid":0}}')
    killed = b'HTTP/1.0 200 OK\r\n\r\n{"StatusCode":137}\n'
    answers = Late(ANSWERS | {"/json": unknown, "/wait": killed})
    answers.asked = []
    listener, thread = serve("engine.sock", answers, answers.asked)
    container = engine.start(fields)
    if by_us:
        container.kill()
    while container.exit_code() is None:
        assert container.code is None
    assert container.usage().out_of_memory == (not by_us)
    close(container, listener, thread)


def test_a_refused_start_says_why(fields):
    refusal = {"/start": answer(b"400 Bad Request", b'{"message":"no such\\n program"}')}
    listener, thread = serve("engine.sock", ANSWERS | refusal, [])
    with pytest.raises(StartFailed, match="Docker Engine: no such program"):
        engine.start(fields)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def test_an_engine_that_is_gone_is_unknown_not_failed(fields):
    listener, thread = serve("engine.sock", ANSWERS | {"/wait": b"HTTP/1.0 200 OK\r\n\r\n"}, [])
    container = engine.start(fields)
    for _ in range(20):
        assert container.exit_code() is None
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)
    os.unlink("engine.sock")
    assert container.exit_code() is None
    close(container)


def test_a_container_is_paused_until_the_engine_lets_it_go_on(fields):
    words = dict.fromkeys(("/pause", "/unpause"), b"HTTP/1.1 204 No Content\r\n\r\n")
    listener, thread = serve("engine.sock", ANSWERS | words, [])
    container = engine.start(fields)
    assert container.pause()
    Path("engine.sock").rename("away")
    assert not container.resume()
    Path("away").rename("engine.sock")
    assert container.resume()
    close(container, listener, thread)


def test_a_job_is_told_to_end_by_the_engine(fields):
    asked = []
    listener, thread = serve("engine.sock", ANSWERS, asked)
    container = engine.start(fields)
    container.terminate()
    assert asked[-1].split()[1] == "/v1.41/containers/mutirao-1/kill?signal=TERM"
    close(container, listener, thread)


def test_a_checkpoint_is_there_before_the_engine_is_asked(fields, tmp_path):
    source = tmp_path / "content"
    source.write_text("saved")
    fields.pairs.append(("restored", restore.line_of("state", str(source), False)))
    with pytest.raises(StartFailed, match="does not answer"):
        engine.start(fields)
    assert (tmp_path / "state").read_text() == "saved"
    with pytest.raises(StartFailed, match="cannot be restored"):  # It is there already.
        engine.start(fields)


def test_no_engine_at_all(fields):
    with pytest.raises(StartFailed, match="does not answer"):
        engine.start(fields)


def test_frames_come_in_any_pieces(fields):
    listener, thread = serve("engine.sock", ANSWERS, [])
    container = engine.start(fields)
    stream = b"\x01\0\0\0\0\0\0\x05hello\x02\0\0\0\0\0\x01\x00" + b"x" * 256 + b"\x01\0\0\0\0\0\0\0"
    for size in (1, 3, 7, 300):
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert b"".join(map(container._unframe, pieces)) == b"hello" + b"x" * 256
    close(container, listener, thread)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Of a container with a holder, which this process plays."""
    monkeypatch.chdir(tmp_path)
    return Fields([("socket", "engine.sock"), ("name", "mutirao-1"), ("holder", "mutirao-1-out")])


MARK = b"0" * 64
HOLDER = {"-out/json": answer(b"200 OK", b'{"Id":"%s","State":{"Pid":%d}}' % (MARK, os.getpid()))}


@pytest.fixture
def on_this_machine(monkeypatch):
    group = Group({"": "a folder"}, set())
    monkeypatch.setattr(engine.cgroups, "of_process", lambda process, mark: group)


def test_a_holder_on_another_machine_is_not_followed(kept):
    """This process has its number, and is not in its control group."""
    listener, thread = serve("engine.sock", HOLDER | ANSWERS, [])
    with pytest.raises(StartFailed, match="on another machine"):
        engine.start(kept)
    shut(listener, thread)


def test_outputs_are_held_before_the_job_begins(kept, on_this_machine):
    asked = []
    listener, thread = serve("engine.sock", HOLDER | ANSWERS, asked)
    with pytest.raises(StartFailed, match="/out cannot be opened: No such file"):
        engine.start(kept)
    assert [line.split()[1].rpartition("/")[0] for line in asked] == [
        "/v1.41/containers/mutirao-1-out"] * 2  # fmt: skip
    shut(listener, thread)


def test_a_holder_whose_program_does_not_run_yet_is_waited_for(kept, on_this_machine, monkeypatch):
    refusals = [errno.EACCES, errno.EACCES]
    opened = os.open("/", os.O_RDONLY)

    def late(path, flags):
        assert path == f"/proc/{os.getpid()}/root/out"
        if refusals:
            raise OSError(refusals.pop(), "not yet")
        return opened

    listener, thread = serve("engine.sock", HOLDER | ANSWERS, [])
    with monkeypatch.context() as patched:
        patched.setattr(engine.os, "open", late)
        container = engine.start(kept)
    assert container.outputs() == opened
    close(container, listener, thread)


def close(container, listener=None, thread=None):
    container.close()
    if listener:
        shut(listener, thread)


def shut(listener, thread):
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def test_the_words_of_dockers_init_are_told_from_the_jobs():
    mark = "[FATAL tini (7)] exec nothing failed: No such file or directory"
    complaint = engine.EngineContainer.complaint
    assert complaint(None, mark) == "exec nothing failed: No such file or directory"
    assert complaint(None, "[FATAL tini (7)]") == ""
    assert complaint(None, "a] b") == ""
