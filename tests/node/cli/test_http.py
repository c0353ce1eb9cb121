"""One request and its answer over a socket, whole or cut. Spec: specs/rpc.md#connections."""

import socket
import threading

import pytest

from node.cli.http import BadResponse, ask

OK = b"HTTP/1.1 200 OK\r\n"


class Told(threading.Thread):
    """The other end of a socket: it hears a request of some length and says what it was told."""

    def __init__(self, answer: bytes, until: bytes = b"\r\n\r\n") -> None:
        super().__init__()
        self.ours, self._theirs = socket.socketpair()
        self._answer, self._until, self.heard = answer, until, b""
        self.ours.settimeout(5)
        self.start()

    def run(self) -> None:
        with self._theirs:
            while not self.heard.endswith(self._until):
                self.heard += self._theirs.recv(65_536)
            self._theirs.sendall(self._answer)


def asked(answer: bytes) -> bytes:
    told = Told(answer)
    with told.ours:
        found = ask(told.ours, "GET", "/x", {})
        told.join()
        return found.body()


def test_a_request_and_its_answer():
    told = Told(b"HTTP/1.1 404 Not Found\r\nContent-Length:  3\r\n\r\nabc", b"hello")
    with told.ours:
        answer = ask(
            told.ours, "POST", "/v1/x", {"a": "b", "content-length": "5"}, iter([b"hel", b"lo"])
        )
        told.join()
        assert (answer.status, answer.body()) == (404, b"abc")
    head, body = told.heard.split(b"\r\n\r\n")
    first, *headers = head.split(b"\r\n")
    assert (first, body) == (b"POST /v1/x HTTP/1.1", b"hello")
    assert {header.lower() for header in headers} == {
        b"host: localhost", b"connection: close", b"a: b", b"content-length: 5",
    }  # fmt: skip


@pytest.mark.parametrize(
    "answer,body",
    [
        (OK + b"content-length: 0\r\n\r\n", b""),
        (OK + b"\r\nuntil the end", b"until the end"),
        (OK + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n", b"abcd"),
        (
            OK + b"transfer-encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nt: 1\r\n\r\n",
            b"0123456789",
        ),
    ],
)
def test_bodies(answer, body):
    assert asked(answer) == body


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        OK,
        OK + b"content-length: 4\r\n\r\nabc",
        OK + b"content-length: x\r\n\r\nabc",
        OK + b"content-length: -1\r\n\r\nabc",
        OK + b"transfer-encoding: chunked\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n4\r\nabc",
        OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_what_is_cut_or_no_http_is_not_taken_for_an_answer(answer):
    with pytest.raises(BadResponse):
        asked(answer)


def test_an_answer_that_comes_before_everything_was_sent():
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(OK + b"content-length: 4\r\n\r\nfull")
        answer = ask(ours, "POST", "/x", {"content-length": "2"}, iter([b"a", b"b"]))
        assert answer.body() == b"full"


def test_lines_come_whole_however_the_bytes_come():
    told = Told(
        OK + b"transfer-encoding: chunked\r\n\r\n2\r\na\n\r\n3\r\nbc\n\r\n1\r\n\n\r\n0\r\n\r\n"
    )
    with told.ours:
        assert list(ask(told.ours, "GET", "/x", {}).lines()) == [b"a", b"bc", b""]
    told.join()
