"""The head of a request to the proxy: CONNECT, or a plain HTTP request.

Spec: specs/egress.md#proxy.
"""

import re
from dataclasses import dataclass
from typing import Final

from node.egress.addresses import address_of
from protocol.values.egress import is_name

HEAD_BYTES_MAX: Final = 16 * 1024
END: Final = b"\r\n\r\n"
HTTP_PORT: Final = 80
PORT_MAX: Final = 65_535
LINE: Final = re.compile(r"([A-Z]{1,16}) (\S{1,8192}) HTTP/1\.[01]")
TARGET: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/?#@\s]+)(?::(\d{1,5}))?")
HEADER: Final = re.compile(r"[!-9;-~]+:[\t -\uffff]*")
HOP_BY_HOP: Final = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "upgrade", "host",
})  # fmt: skip
"""Headers that are not passed on; Host is written anew."""


class BadRequest(Exception):
    """The job's program does not speak HTTP to the proxy; the text is one line."""


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """What a program of the job asks of the proxy."""

    host: str
    """A name in lower case, or an address."""
    port: int
    head: bytes = b""
    """What the server is sent first; empty for CONNECT."""


def request_of(head: bytes) -> ProxyRequest:
    """Return the request of a head that ends with END; raise BadRequest."""
    first, *headers = head.removesuffix(END).decode("latin-1").split("\r\n")
    line = LINE.fullmatch(first)
    if line is None:
        raise BadRequest("this is an HTTP proxy")
    method, target = line.groups()
    if method == "CONNECT":
        host, port = _place_of(target, 0)
        return ProxyRequest(host, port)
    scheme, mark, rest = target.partition("://")
    if not mark or scheme.lower() != "http":
        raise BadRequest("give the whole URL, http://NAME/PATH; for https use CONNECT")
    authority, slash, path = rest.partition("/")
    host, port = _place_of(authority, HTTP_PORT)
    kept = _passed_on(headers)
    named = authority if authority.isascii() else host
    lines = [f"{method} {slash or '/'}{path} HTTP/1.1", f"Host: {named}", *kept]
    text = "\r\n".join([*lines, "Connection: close", "", ""])
    return ProxyRequest(host, port, text.encode("latin-1"))


def _place_of(text: str, usual: int) -> tuple[str, int]:
    found = TARGET.fullmatch(text)
    port = int(found[2] or usual) if found else 0
    if found is None or not 0 < port <= PORT_MAX or not text.isascii():
        raise BadRequest("give NAME:PORT")
    host = found[1].strip("[]").rstrip(".").lower()
    if not is_name(host) and address_of(host) is None:
        raise BadRequest(f"{host[:60]!r} is neither a name nor an address")
    return host, port


def _passed_on(headers: list[str]) -> list[str]:
    """Return the headers that concern the server; one that is none ends the request."""
    for header in headers:
        if not HEADER.fullmatch(header):
            raise BadRequest("a header is malformed")
    own = {word.strip().lower() for header in headers if header.lower().startswith("connection:")
           for word in header.partition(":")[2].split(",")}  # fmt: skip
    dropped = HOP_BY_HOP | own
    return [header for header in headers if header.partition(":")[0].lower() not in dropped]
