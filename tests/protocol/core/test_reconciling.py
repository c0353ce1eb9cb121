"""Leases are compared with each provider every now and then, in one message of bounded size.

Spec: specs/survival.md#comparison.
"""

from dataclasses import replace

from protocol.core.reconciling import Reconciler
from protocol.machines.context import Context, Policy
from protocol.machines.requester import lease
from protocol.values.ids import LeaseId, digest_of
from protocol.values.limits import LEASES_LISTED_MAX, RECONCILE_MS
from protocol.wire.envelope import open_envelope
from protocol.wire.messages import LeaseQuery
from tests.driven import START_MS
from tests.driven_requester_lease import TERMS, after
from tests.strategies import SIGNERS

SIGNER = SIGNERS[0]


def at(ms: int) -> Context:
    return Context(START_MS + ms, SIGNER, Policy())


def with_leases(count: int) -> tuple[Reconciler, dict[LeaseId, lease.State]]:
    running = after(3).state
    leases: dict[LeaseId, lease.State] = {}
    reconciler = Reconciler(leases)
    for number in range(count):
        lease_id = LeaseId(digest_of(number.to_bytes(2)))
        leases[lease_id] = replace(running, lease=replace(TERMS, lease_id=lease_id))
        reconciler.add(TERMS.provider, lease_id, at(0))
    return reconciler, leases


def test_there_is_one_query_per_provider_and_half_minute() -> None:
    reconciler, leases = with_leases(3)
    gaps, last_ms = set(), 0
    for _ in range(20):
        due_ms = reconciler.next_deadline_ms() - START_MS  # type: ignore[operator]
        assert reconciler.compare(at(due_ms - 1)) == []
        (send,) = reconciler.compare(at(due_ms))
        query = open_envelope(send.envelope, SIGNER.network_id, SIGNER.peer_id).message
        assert isinstance(query, LeaseQuery)
        assert {entry.lease_id for entry in query.leases} == set(leases)
        assert {(entry.state, entry.vouchers) for entry in query.leases} == {(3, 1)}
        assert (send.peer, send.until_ms) == (TERMS.provider, 0)
        gaps.add(due_ms - last_ms)
        last_ms = due_ms
    assert min(gaps) >= RECONCILE_MS * 3 // 4
    assert max(gaps) < RECONCILE_MS * 5 // 4
    assert len(gaps) > 10, "they do not come in step"


def test_many_leases_take_turns() -> None:
    reconciler, leases = with_leases(LEASES_LISTED_MAX + 5)
    seen: set[LeaseId] = set()
    for _ in range(2):
        due_ms = reconciler.next_deadline_ms() - START_MS  # type: ignore[operator]
        (send,) = reconciler.compare(at(due_ms))
        query = open_envelope(send.envelope, SIGNER.network_id, SIGNER.peer_id).message
        assert isinstance(query, LeaseQuery)
        assert len(query.leases) == LEASES_LISTED_MAX
        seen |= {entry.lease_id for entry in query.leases}
    assert seen == set(leases)


def test_nothing_is_compared_without_leases() -> None:
    reconciler, leases = with_leases(2)
    assert TERMS.provider in reconciler
    for lease_id in list(leases):
        reconciler.remove(TERMS.provider, lease_id)
    assert TERMS.provider not in reconciler
    assert list(reconciler.leases_with(TERMS.provider)) == []
    assert reconciler.next_deadline_ms() is None
