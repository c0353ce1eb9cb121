"""The heads of requests to the proxy.

Spec: specs/egress.md#proxy.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.egress.request import END, BadRequest, ProxyRequest, request_of


def test_connect() -> None:
    assert request_of(b"CONNECT PyPI.org.:443 HTTP/1.1\r\nHost: x\r\n\r\n") == ProxyRequest(
        "pypi.org", 443
    )
    assert request_of(b"CONNECT [2606:4700::1]:443 HTTP/1.0\r\n\r\n").host == "2606:4700::1"


def test_a_plain_request_goes_on_without_what_is_only_for_the_proxy() -> None:
    head = (
        b"GET http://a.org:8080/x?y=1 HTTP/1.1\r\nHost: other\r\nProxy-Authorization: secret\r\n"
        b"Connection: keep-alive, X-Own\r\nX-Own: 1\r\nAccept: */*\r\n\r\n"
    )
    found = request_of(head)
    assert (found.host, found.port) == ("a.org", 8080)
    assert found.head == (
        b"GET /x?y=1 HTTP/1.1\r\nHost: a.org:8080\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    assert request_of(b"GET http://a.org HTTP/1.1\r\n\r\n").head.startswith(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "head",
    [b"", b"\x16\x03\x01", b"GET / HTTP/1.1", b"GET https://a.org/ HTTP/1.1",
     b"CONNECT a.org HTTP/1.1",
     b"CONNECT a.org:0 HTTP/1.1", b"CONNECT a.org:65536 HTTP/1.1", b"CONNECT a@b.org:443 HTTP/1.1",
     b"CONNECT a.org\0:443 HTTP/1.1", b"CONNECT 1.2:443 HTTP/1.1", b"CONNECT \xe4.org:443 HTTP/1.1",
     b"GET http://u:p@a.org/ HTTP/1.1", b"GET http://a.org/ HTTP/2", b"get http://a.org/ HTTP/1.1",
     b"GET http://a.org/ HTTP/1.1\r\nno header", b"GET http://a.org/ HTTP/1.1\r\nA : b",
     b"GET http://a.org/ HTTP/1.1\r\nA: b\nC: d"],
)  # fmt: skip
def test_what_is_no_request_is_refused(head: bytes) -> None:
    with pytest.raises(BadRequest):
        request_of(head + END)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        found = request_of(b"GET http://a.org/" + data + END)
    except BadRequest:
        return
    assert found.host == "a.org"
