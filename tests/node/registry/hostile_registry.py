"""A registry that answers as a test says: lies, limits, tokens, lost connections.

Spec: specs/registries.md#requests.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h11
import trio

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def described(data: bytes, kind: str, **more) -> dict:
    return {"mediaType": kind, "digest": sha(data), "size": len(data), **more}


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Reply:
    """One answer. With `sent`, the connection is cut after so many bytes of the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None


class HostileRegistry:
    """Serves `content` by path; `script` may answer first, by what it returns."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self.script: Callable[[Asked], Reply | None] = lambda _: None
        self.ranges = True
        self.name = ""

    def add_image(
        self, *layers: bytes, tag: str = "1", repository: str = "team/app", **config
    ) -> bytes:
        """Publish an image of uncompressed layers; return its manifest."""
        document = {
            "os": "linux", "architecture": "amd64", **config,
            "rootfs": {"diff_ids": [sha(layer) for layer in layers]},
        }  # fmt: skip
        written = json.dumps(document).encode()
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": described(written, "c"),
            "layers": [described(layer, LAYER) for layer in layers],
        }).encode()  # fmt: skip
        for blob in (written, *layers):
            self.content[f"/v2/{repository}/blobs/{sha(blob)}"] = blob
        self.add_manifest(manifest, tag, repository)
        return manifest

    def add_manifest(self, data: bytes, tag: str = "1", repository: str = "team/app") -> None:
        for version in (tag, sha(data)):
            self.content[f"/v2/{repository}/manifests/{version}"] = data

    def paths(self) -> list[str]:
        return [each.path for each in self.asked]

    def answer_to(self, asked: Asked) -> Reply:
        scripted = self.script(asked)
        if scripted is not None:
            return scripted
        data = self.content.get(asked.path)
        if data is None:
            return Reply(b'{"errors": []}', 404)
        begin = asked.headers.get("range", "")
        if begin and self.ranges:
            offset = int(begin.removeprefix("bytes=").removesuffix("-"))
            if offset >= len(data):
                return Reply(status=416)
            span = f"bytes {offset}-{len(data) - 1}/{len(data)}"
            return Reply(data[offset:], 206, {"content-range": span})
        return Reply(data)

    async def serve(self, stream: trio.SocketStream) -> None:
        protocol = h11.Connection(h11.SERVER)
        while (asked := await _next_request(stream, protocol)) is not None:
            self.asked.append(asked)
            reply = self.answer_to(asked)
            headers = {"content-length": str(len(reply.body)), **reply.headers}
            head = h11.Response(status_code=reply.status, headers=list(headers.items()))
            await stream.send_all(protocol.send(head))
            if reply.sent is not None:
                await stream.send_all(reply.body[: reply.sent])
                return
            await stream.send_all(protocol.send(h11.Data(data=reply.body)))
            await stream.send_all(protocol.send(h11.EndOfMessage()))
            if protocol.our_state is not h11.DONE:
                return
            protocol.start_next_cycle()


async def _next_request(stream: trio.SocketStream, protocol: h11.Connection) -> Asked | None:
    asked, body = None, b""
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.Request):
            headers = {name.decode(): value.decode() for name, value in event.headers}
            asked = Asked(event.method.decode(), event.target.decode(), headers)
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            asked.body = body
            return asked
        else:
            return None


@asynccontextmanager
async def serving() -> AsyncIterator[HostileRegistry]:
    """Serve on a loopback port until the end."""
    registry = HostileRegistry()

    async def handle(stream: trio.SocketStream) -> None:
        try:
            await registry.serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, handle, 0)
        registry.name = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield registry
        nursery.cancel_scope.cancel()
