"""A request for a range has one encoding; anything else is the peer's fault.

Spec: specs/data.md#bulk-transfer.
"""

import socket

import pytest

from node.data.ranges import (
    RANGE_MAX,
    RangeRequest,
    decode_range,
    encode_range,
    receive_reply,
    receive_request,
)
from node.network.bulk_connection import BulkConnection
from protocol.values.errors import MalformedMessage, PeerUnreachable, RuleBroken
from protocol.values.ids import Digest, PeerId
from protocol.wire.codec import pack

PEER = PeerId("peer")
DIGEST = Digest(bytes(range(32)))


def test_the_vector() -> None:
    data = encode_range(RangeRequest(DIGEST, 8 * 2**20, 2**20))
    assert data.hex() == f"84000301c420{DIGEST.hex()}02ce0080000003ce00100000"
    assert decode_range(PEER, data) == RangeRequest(DIGEST, 8 * 2**20, 2**20)


@pytest.mark.parametrize(
    "fields",
    [
        {0: 2, 1: DIGEST, 2: 0, 3: 1},
        {0: 3, 1: DIGEST[:31], 2: 0, 3: 1},
        {0: 3, 1: DIGEST, 2: -1, 3: 1},
        {0: 3, 1: DIGEST, 2: 0, 3: 0},
        {0: 3, 1: DIGEST, 2: 0, 3: RANGE_MAX + 1},
        {0: 3, 1: DIGEST, 2: 0, 3: 1, 4: 0},
        {0: 3, 1: DIGEST, 2: 0},
    ],
)
def test_what_is_no_request_is_a_fault(fields) -> None:
    with pytest.raises(MalformedMessage):
        decode_range(PEER, pack(fields))


@pytest.mark.parametrize("sent", [bytes(4), b"\xff\xff\xff\xff", b"\x00\x00\x00\x81"])
def test_a_frame_has_a_bounded_size(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        with pytest.raises(RuleBroken):
            receive_request(BulkConnection(ours, PEER, 10))


def test_the_end_between_requests_is_nobodys_fault() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        assert receive_request(BulkConnection(ours, PEER, 10)) is None
        with pytest.raises(PeerUnreachable):
            receive_reply(BulkConnection(ours, PEER, 10))
