"""A request for a range has one encoding; anything else is the peer's fault.

Spec: specs/data.md#bulk-transfer.
"""

import socket

import pytest

from node.data.ranges import (
    RANGE_MAX,
    HoldersRequest,
    RangeRequest,
    ask_holders,
    decode_request,
    encode_range,
    receive_reply,
    receive_request,
    tell_holders,
)
from node.network.bulk_connection import BulkConnection
from protocol.values.errors import MalformedMessage, PeerUnreachable, RuleBroken
from protocol.values.ids import Digest, PeerId, peer_id_of
from protocol.wire.codec import pack

PEER = PeerId("peer")
DIGEST = Digest(bytes(range(32)))


def test_the_vector() -> None:
    data = encode_range(RangeRequest(DIGEST, 8 * 2**20, 2**20))
    assert data.hex() == f"84000301c420{DIGEST.hex()}02ce0080000003ce00100000"
    assert decode_request(PEER, data) == RangeRequest(DIGEST, 8 * 2**20, 2**20)


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
        {0: 4, 1: DIGEST, 2: 0},
        {0: 4, 1: b""},
    ],
)
def test_what_is_no_request_is_a_fault(fields) -> None:
    with pytest.raises(MalformedMessage):
        decode_request(PEER, pack(fields))


def test_holders_are_told_and_checked() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        asker, teller = BulkConnection(ours, PEER, 10), BulkConnection(theirs, PEER, 10)
        named = [peer_id_of(bytes([number]) * 32) for number in range(3)]
        tell_holders(teller, named)
        assert ask_holders(asker, DIGEST) == tuple(named)
        assert receive_request(teller) == HoldersRequest(DIGEST)
        tell_holders(teller, [PeerId("nobody")])
        with pytest.raises(RuleBroken, match="no peer"):
            ask_holders(asker, DIGEST)
        tell_holders(teller, named * 3)
        with pytest.raises(RuleBroken, match="9 holders"):
            ask_holders(asker, DIGEST)


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
