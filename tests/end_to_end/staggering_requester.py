"""`python -m tests.end_to_end.staggering_requester` is the program of a requester that cheats.

It shows every bidder another set: each holds one more commitment, that of a bid of its own.

Spec: specs/auction.md#audits.
"""

from dataclasses import replace
from typing import Any

from node.cli import main
from protocol.machines.effects import Send
from protocol.machines.requester.auction import machine
from protocol.values.units import PPM
from protocol.wire.envelope import open_envelope
from protocol.wire.messages import CommitSet

FAIR = machine._close_set


def close_sets(state: Any, context: Any) -> Any:
    """Close the set as honest nodes do, and add another commitment for each bidder."""
    following, sends = FAIR(state, context)
    return following, tuple(other(send, number, context) for number, send in enumerate(sends))


def other(send: Send, number: int, context: Any) -> Send:
    told = open_envelope(send.envelope, context.signer.network_id, send.peer).message
    assert isinstance(told, CommitSet)
    pairs = sorted([*zip(told.commitments, told.weights, strict=True), (bytes([number]) * 32, PPM)])
    digests, weights = zip(*pairs, strict=True)
    signed = context.signer.sign(CommitSet(told.call_id, digests, weights))
    return replace(send, envelope=signed.envelope)


if __name__ == "__main__":
    machine._close_set = close_sets
    main()
