"""Every error of normal operation, classified by fault.

NodeError
├── InvalidRequest        our user's request is invalid: answered over RPC
│   ├── NotFound
│   ├── Conflict
│   ├── InvalidQuery
│   ├── InvalidProof
│   └── NothingProven
├── PeerFault             a peer violated the spec: discarded, and the peer is penalised
│   ├── MalformedMessage
│   ├── BadSignature
│   └── RuleBroken
├── Stale                 a peer was honest but late: discarded without a penalty
└── Unavailable           the environment failed: a retry may succeed
    ├── PeerUnreachable
    ├── BlobUnavailable
    ├── SandboxUnavailable
    ├── StorageFull
    └── DaemonUnavailable

An exception of any other class is a bug in this program: it is not caught, and the node stops.
Spec: specs/errors.md.
"""

from typing import ClassVar

from protocol.values.ids import PeerId


class NodeError(Exception):
    """The base of all errors that are expected in normal operation."""

    code: ClassVar[str]  # Stable: users, logs and specs/errors.md refer to it.


class InvalidRequest(NodeError):
    """The user's request violates the protocol or an option's rules."""

    code = "invalid-request"


class NotFound(InvalidRequest):
    """The user's request names something that does not exist on this node."""

    code = "not-found"


class Conflict(InvalidRequest):
    """The user's request is not possible in the current state."""

    code = "conflict"


class InvalidQuery(InvalidRequest):
    """A query for offers cannot be understood."""

    code = "invalid-query"

    def __init__(self, why: str, position: int) -> None:
        """Store the reason, and where in the text the fault is, counted from 0."""
        super().__init__(f"character {position + 1}: {why}")
        self.position = position


class InvalidProof(InvalidRequest):
    """The bytes are not a fraud proof, or not as its author wrote it."""

    code = "invalid-proof"


class NothingProven(InvalidRequest):
    """The messages of a fraud proof are authentic, but show no fraud."""

    code = "nothing-proven"


class PeerFault(NodeError):
    """A peer violated the specification."""

    penalty: ClassVar[int] = 10

    def __init__(self, peer: PeerId, why: str) -> None:
        """Store the peer at fault and the reason."""
        super().__init__(f"{peer}: {why}")
        self.peer = peer
        self.why = why


class MalformedMessage(PeerFault):
    """The bytes are not a valid message."""

    code = "malformed-message"


class BadSignature(PeerFault):
    """The signature does not match the sender or the content."""

    code = "bad-signature"
    penalty = 100


class RuleBroken(PeerFault):
    """The message is well formed and signed, but the protocol forbids what it says."""

    code = "rule-broken"


class Stale(NodeError):
    """The message was valid once: it is a repetition, or it came too late."""

    code = "stale"


class Unavailable(NodeError):
    """Something outside this program failed."""

    code = "unavailable"


class PeerUnreachable(Unavailable):
    """No address of the peer answers, or the peer did not answer in time."""

    code = "peer-unreachable"


class BlobUnavailable(Unavailable):
    """No holder provided the bytes of a digest."""

    code = "blob-unavailable"


class SandboxUnavailable(Unavailable):
    """The sandbox refused, failed to start, or disappeared."""

    code = "sandbox-unavailable"


class StorageFull(Unavailable):
    """The disk, or the part of it that the owner allows, is full."""

    code = "storage-full"


class DaemonUnavailable(Unavailable):
    """No daemon answers on the socket, or another one holds the data folder."""

    code = "daemon-unavailable"
