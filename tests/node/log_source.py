"""The log of one execution at its provider, which a test lets grow.

Spec: specs/execution.md#log-protocol.
"""

from pathlib import Path

from node.data.log_protocol import PROTOCOL
from node.provider.log_server import LogServer
from protocol.values.ids import LeaseId, PeerId
from tests.node.fixtures import ADA, BEA, LEASE
from tests.node.memory_stream import MemoryStreams


class LogSource:
    """The log of one lease at its provider."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.grows = True
        self.known = True

    def log_of(self, lease_id: LeaseId) -> tuple[PeerId, Path, bool] | None:
        if lease_id != LEASE or not self.known:
            return None
        return ADA.peer_id, self.path, self.grows

    def say(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)


def serve_log(path: Path, streams: MemoryStreams) -> LogSource:
    """Serve the log in a file as the provider."""
    source = LogSource(path)
    streams.handlers[BEA.peer_id, PROTOCOL] = LogServer(source.log_of).serve
    return source
