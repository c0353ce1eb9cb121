"""Bills: usage at the agreed rate, between the two sides of the lease; vouchers as they came.

Spec: specs/lease.md#receipt.
"""

from hypothesis import given
from hypothesis import strategies as st

from protocol.machines.context import Context
from protocol.machines.provider.lease import Hold, Settling
from protocol.machines.provider.lease.billing import promised, receipt_of, settle_of
from protocol.rules.capacity import Reservation
from protocol.rules.metering import amount_of
from protocol.values.ids import CallId, ContentId, LeaseId, digest_of
from protocol.wire.envelope import KeySigner
from protocol.wire.job import Resources
from protocol.wire.messages import Voucher
from tests.driven import POLICY, START_MS
from tests.strategies import SIGNERS

PAYER = SIGNERS[1]
CONTEXT = Context(START_MS, SIGNERS[0], POLICY)
LEASE, CONTRACT = LeaseId(digest_of(b"lease")), ContentId(digest_of(b"contract"))
HOLD = Hold(
    LEASE, CallId(bytes(32)), PAYER.peer_id, 0, 3_333, 60_000, Resources(), Reservation(Resources())
)


@given(st.integers(0, 10**9), st.integers(0, 255))
def test_a_bill_is_the_usage_at_the_rate(usage_ms: int, exit_code: int) -> None:
    receipt = receipt_of(HOLD, CONTRACT, usage_ms, (exit_code, b""), CONTEXT)
    assert (receipt.payer, receipt.payee) == (PAYER.peer_id, SIGNERS[0].peer_id)
    assert (receipt.lease_id, receipt.contract) == (LEASE, CONTRACT)
    assert (receipt.usage_ms, receipt.rate, receipt.exit_code) == (usage_ms, 3_333, exit_code)
    assert receipt.amount == amount_of(3_333, usage_ms)


def test_what_is_kept_says_who_owes_whom_and_proves_it() -> None:
    receipt = receipt_of(HOLD, CONTRACT, 1_000, (0, b""), CONTEXT)
    kept = settle_of(Settling(HOLD, START_MS, b"proposal", receipt, b"voucher"), b"countersign")
    assert (kept.provider, kept.requester) == (SIGNERS[0].peer_id, PAYER.peer_id)
    assert (kept.usage_ms, kept.amount) == (1_000, 3_333)
    assert (kept.proposal, kept.countersign, kept.voucher) == (
        b"proposal", b"countersign", b"voucher",
    )  # fmt: skip


def test_a_kept_voucher_is_read_again_also_on_another_network() -> None:
    """An owner may move the node to another network while a lease settles."""
    signer = KeySigner(bytes(32), "another")
    voucher = signer.sign(Voucher(LEASE, CONTRACT, 1, 2_000, 6_666)).envelope
    assert promised(voucher) == 6_666
    assert promised(b"") == 0
