"""Receipts: what an execution used and costs, signed by both sides.

Spec: specs/lease.md#receipt. The provider proposes, the requester signs the same body or disputes.
"""

from dataclasses import dataclass

from protocol.rules.metering import amount_of
from protocol.values.errors import PeerFault
from protocol.values.ids import ContentId, LeaseId, PeerId
from protocol.wire.envelope import Signer, open_envelope
from protocol.wire.messages import Receipt


@dataclass(frozen=True, slots=True)
class Bill:
    """What a requester knows of an execution, to check a receipt against."""

    lease_id: LeaseId
    contract: ContentId
    provider: PeerId
    rate: int
    usage_ms: int
    usage_ms_max: int
    """The most usage that is possible in the time that we measured."""
    result: tuple[int, bytes] | None
    """Exit code and digest of the outputs; None without a result."""


def countersign(bill: Bill, proposal: bytes, signer: Signer) -> tuple[bytes, str]:
    """Return our envelope of the provider's receipt, or empty bytes and the dispute."""
    try:
        proposed = open_envelope(proposal, signer.network_id, bill.provider)
    except PeerFault as fault:
        return b"", fault.why
    receipt = proposed.message
    if not isinstance(receipt, Receipt) or proposed.signer != bill.provider:
        return b"", "the provider did not sign the receipt"
    expected = (bill.lease_id, bill.contract, signer.peer_id, bill.provider, bill.rate)
    stated = (receipt.lease_id, receipt.contract, receipt.payer, receipt.payee, receipt.rate)
    if stated != expected or receipt.usage_ms != bill.usage_ms:
        return b"", "the receipt is for another lease"
    if bill.result is not None and (receipt.exit_code, receipt.outputs) != bill.result:
        return b"", "the receipt is for another result"
    if receipt.usage_ms > bill.usage_ms_max:
        claim = f"{receipt.usage_ms} ms of {bill.usage_ms_max} ms"
        return b"", f"the provider claims more usage than the measured time: {claim}"
    if receipt.amount != amount_of(receipt.rate, receipt.usage_ms):
        return b"", "the receipt's amount is not its usage at its rate"
    return signer.sign(receipt).envelope, ""
