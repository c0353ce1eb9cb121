"""What a provider bills, and what the vouchers promise it.

Spec: specs/lease.md#receipt.
"""

from protocol.machines.context import Context
from protocol.machines.effects import Settle
from protocol.machines.provider.lease.states import Hold, Serving, Settling, Stopping
from protocol.rules.metering import amount_of
from protocol.values.ids import ContentId
from protocol.values.limits import RETAIN_MS
from protocol.wire.envelope import reopen
from protocol.wire.messages import Receipt, Voucher


def receipt_of(
    hold: Hold, contract: ContentId, usage_ms: int, result: tuple[int, bytes], context: Context
) -> Receipt:
    """Return the bill for a usage; `result` is the exit code and the digest of the outputs."""
    amount = amount_of(hold.rate, usage_ms)
    parties = (hold.requester, context.signer.peer_id)
    return Receipt(hold.lease_id, contract, *parties, hold.rate, usage_ms, amount, *result)


def bill(
    state: Serving | Stopping, usage_ms: int, result: tuple[int, bytes], context: Context
) -> Settling:
    """Return the state after sending our signed bill for a usage."""
    receipt = receipt_of(state.hold, state.contract, usage_ms, result, context)
    proposal = context.signer.sign(receipt).envelope
    return Settling(state.hold, context.now_ms + RETAIN_MS, proposal, receipt, state.voucher)


def settle_of(state: Settling, countersign: bytes) -> Settle:
    """Return the effect that stores a bill; `countersign` is empty before the requester signs."""
    receipt, hold = state.receipt, state.hold
    parties = (receipt.payee, receipt.payer)
    amounts = (receipt.usage_ms, receipt.amount)
    envelopes = (state.proposal, countersign, state.voucher)
    return Settle(hold.lease_id, *parties, *amounts, *envelopes)


def promised(voucher: bytes) -> int:
    """Return the amount of a stored voucher; 0 if there is none."""
    if not voucher:
        return 0
    kept = reopen(voucher)
    assert isinstance(kept, Voucher)
    return kept.amount
