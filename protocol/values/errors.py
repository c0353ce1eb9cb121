"""Everything that may go wrong in normal operation, by whose fault it is.

NodeError
├── InvalidRequest        our user asked for what cannot be: answered over RPC
│   ├── NotFound
│   └── Conflict
├── PeerFault             a peer broke the spec: dropped, and it costs the peer score
│   ├── MalformedMessage
│   ├── BadSignature
│   └── RuleBroken
├── Stale                 a peer was honest but late: dropped, free of charge
└── Unavailable           the world outside failed us: may be tried again
    ├── PeerUnreachable
    ├── BlobUnavailable
    ├── SandboxUnavailable
    ├── StorageFull
    └── DaemonUnavailable

An exception of any other class is a bug in this program: nobody catches it, the node stops.
Spec: specs/errors.md.
"""

from typing import ClassVar

from protocol.values.ids import PeerId


class NodeError(Exception):
    """The base of all errors that are expected in normal operation."""

    code: ClassVar[str]  # Stable: users, logs and specs/errors.md know an error by its code.


class InvalidRequest(NodeError):
    """Our own user asked for something that the protocol does not allow."""

    code = "invalid-request"


class NotFound(InvalidRequest):
    """Our own user named a thing that is not here."""

    code = "not-found"


class Conflict(InvalidRequest):
    """Our own user asked for something that the present state does not allow."""

    code = "conflict"


class PeerFault(NodeError):
    """A peer did what the spec forbids."""

    penalty: ClassVar[int] = 10

    def __init__(self, peer: PeerId, why: str) -> None:
        """Name the peer at fault and say why."""
        super().__init__(f"{peer}: {why}")
        self.peer = peer
        self.why = why


class MalformedMessage(PeerFault):
    """The bytes are no message of ours."""

    code = "malformed-message"


class BadSignature(PeerFault):
    """The signature does not belong to the sender or to the content."""

    code = "bad-signature"
    penalty = 100


class RuleBroken(PeerFault):
    """The message is well formed and signed, but the protocol forbids what it says."""

    code = "rule-broken"


class Stale(NodeError):
    """The message was right once: it repeats another, or its time is over."""

    code = "stale"


class Unavailable(NodeError):
    """Something outside of this program did not do its part."""

    code = "unavailable"


class PeerUnreachable(Unavailable):
    """No address of the peer answers, or it did not answer in time."""

    code = "peer-unreachable"


class BlobUnavailable(Unavailable):
    """No holder gave us the bytes of a digest."""

    code = "blob-unavailable"


class SandboxUnavailable(Unavailable):
    """The sandbox refused, failed to start or vanished."""

    code = "sandbox-unavailable"


class StorageFull(Unavailable):
    """The disk, or the budget that its owner gave us of it, is full."""

    code = "storage-full"


class DaemonUnavailable(Unavailable):
    """No daemon answers on the socket, or another one holds the data folder."""

    code = "daemon-unavailable"
