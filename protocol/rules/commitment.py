"""How a provider commits to a bid before anybody can read it.

Spec: specs/auction.md#commitments. The hash includes the peer's key, so a commitment cannot be
copied; the nonce hides bids that could be guessed.
"""

import hashlib
from typing import Final

from protocol.values.ids import CallId, PeerId, public_key_of
from protocol.wire.codec import encode
from protocol.wire.messages import Bid

BID_DOMAIN: Final = b"mutirao/bid/1\0"


def commitment_of(call_id: CallId, peer: PeerId, bid: Bid, nonce: bytes) -> bytes:
    """Return the 32 bytes that bind a peer to a bid in one auction."""
    assert len(nonce) == 32
    content = BID_DOMAIN + call_id + public_key_of(peer) + encode(bid) + nonce
    return hashlib.sha256(content).digest()
