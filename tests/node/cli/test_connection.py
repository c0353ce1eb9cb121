"""HTTP over the socket, and what happens when nobody answers. Spec: specs/rpc.md#routes."""

import socket
import threading

import pytest

from node.cli import connection
from node.cli.connection import Connection, ServerEvent, parse_events, quoted, with_query
from node.cli.failure import CliError

JOB = {"image": "base", "command": ["true"], "max_price": "1"}


@pytest.fixture
def deaf(tmp_path):
    """A socket that takes connections and says what the test wants, or nothing."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "deaf.sock"))
    listener.listen(4)
    yield listener
    listener.close()


def answer(listener, data: bytes) -> Connection:
    def speak():
        peer, _ = listener.accept()
        with peer:
            peer.recv(65_536)
            peer.sendall(data)

    threading.Thread(target=speak).start()
    return Connection(listener.getsockname())


def test_get_and_post(daemon):
    node = Connection(daemon.socket)
    job = node.post("/jobs", JOB, {"idempotency-key": "k"})
    assert daemon.service.specs[0].key == b"k"
    assert node.get("/jobs", limit=1, before=None) == [job]


def test_a_problem_becomes_a_failure(daemon):
    with pytest.raises(CliError) as caught:
        Connection(daemon.socket).get("/jobs/abcdef")
    assert (caught.value.code, caught.value.exit_code) == ("not-found", 4)


def test_upload_and_download(daemon):
    node = Connection(daemon.socket)
    assert node.upload("/blobs", iter([b"ab", b"c"]), 3)["size"] == 3
    job = node.post("/jobs", JOB)["id"]
    daemon.do(daemon.service.say, job, bytes(2**20))
    assert b"".join(node.download(f"/jobs/{job}/logs", offset=1)) == bytes(2**20 - 1)


def test_events_end_with_the_job(daemon):
    node = Connection(daemon.socket)
    job = node.post("/jobs", JOB)["id"]
    daemon.do(daemon.service.whole_run, job)
    found = list(node.events(f"/jobs/{job}/events", after=4))
    assert [each.kind for each in found] == ["running", "done"]
    assert found[0].data["seq"] == 5


def test_an_answer_that_comes_before_all_was_sent(daemon):
    with pytest.raises(CliError, match="over 8388608 bytes") as caught:
        Connection(daemon.socket).post("/jobs", {"image": "x" * 2**24})
    assert caught.value.code == "too-large"


def test_nobody_there(tmp_path, deaf):
    for path in (tmp_path / "none", tmp_path / "none" / "none"):
        with pytest.raises(CliError, match=r"no daemon answers on .*No such file") as caught:
            Connection(path).get("/status")
        assert "mutirao up" in caught.value.hint
        assert caught.value.exit_code == 3
    name = deaf.getsockname()
    deaf.close()
    with pytest.raises(CliError, match="Connection refused"):
        Connection(name).get("/status")


def test_a_path_that_is_too_long(tmp_path):
    with pytest.raises(CliError, match="over 107 bytes, the limit"):
        Connection(tmp_path / ("x" * 107)).get("/status")


def test_a_daemon_that_hangs(deaf, monkeypatch):
    with (
        pytest.raises(CliError, match="does not answer"),
        Connection(deaf.getsockname())._asking("GET", "/status", timeout_s=0.05),
    ):
        raise AssertionError


@pytest.mark.parametrize(
    "data,why",
    [
        (b"", "the daemon stopped"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "the daemon stopped"),
        (b"HTTP/1.1 502 Bad\r\ncontent-length: 4\r\n\r\noops", "answered 502 without a reason"),
        (b"nonsense\r\n", "the daemon stopped"),
    ],
)
def test_half_an_answer(deaf, data, why):
    with pytest.raises(CliError, match=why):
        answer(deaf, data).get("/status")


def test_a_download_that_is_cut_is_not_taken_for_whole(deaf):
    node = answer(deaf, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    got = []
    with pytest.raises(CliError, match="the daemon stopped"):
        got.extend(node.download("/jobs/x/logs"))
    assert got == [b"half"]


@pytest.mark.parametrize(
    "end,why",
    [
        (b"", "the daemon stopped"),
        (b"event: bye\ndata: {}\n\n", "the daemon stopped"),
        (b'event: error\ndata: {"code": "x", "detail": "lost"}\n\n', "lost"),
    ],
)
def test_events_that_end_too_early(deaf, end, why):
    head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
    node = answer(deaf, head + b'event: bids\ndata: {"seq": 1}\n\n' + end)
    got = []
    with pytest.raises(CliError, match=why):
        got.extend(node.events("/jobs/x/events"))
    assert got == [ServerEvent("bids", {"seq": 1})]


def test_interrupt_wakes_who_waits(daemon):
    node = Connection(daemon.socket)
    job = node.post("/jobs", JOB)["id"]
    events = node.events(f"/jobs/{job}/events")
    next(events)
    threading.Timer(0.05, node.interrupt).start()
    with pytest.raises(CliError, match="stopped"):
        next(events)


def test_parse_events():
    lines = b'retry: 1\n\n: beat\n\nid: 1\nevent: a\ndata: {"x": "y: z"}\n\ndata: {}\n\n'
    parsed = list(parse_events(lines.splitlines()))
    assert parsed == [ServerEvent("a", {"x": "y: z"}), ServerEvent("message", {})]


def test_parts_of_paths():
    assert with_query("/a", {"b": None, "c": "d e"}) == "/a?c=d+e"
    assert with_query("/a", {"b": None}) == "/a"
    assert quoted("../é?") == "..%2F%C3%A9%3F"
    assert connection.SILENCE_S > 4 * 10
