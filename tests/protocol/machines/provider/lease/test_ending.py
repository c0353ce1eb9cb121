"""What ends a lease. Spec: specs/lease.md#provider."""

from protocol.machines.effects import Drop, Save
from protocol.machines.provider.lease import Ended
from protocol.machines.provider.lease.ending import DETAIL_BYTES, release, save
from protocol.values.reasons import Release
from protocol.wire.envelope import open_envelope
from tests.driven_provider_lease import HOLD, LEASE, REQUESTER, after


def test_an_ended_lease_is_forgotten_and_another_is_not() -> None:
    state = after(5).state
    assert save(state) == Save("provider-lease", LEASE, state)
    assert save(Ended(HOLD)) == Save("provider-lease", LEASE, None)


def test_a_lease_is_released_with_a_reason_of_limited_length() -> None:
    context = after(1).context
    state, effects = release(HOLD, Release.SANDBOX_FAILED, "long " * 999, context)
    assert state == Ended(HOLD)
    saved, sent, dropped = effects
    assert (saved, dropped) == (save(state), Drop(LEASE))
    said = open_envelope(sent.envelope, context.signer.network_id, REQUESTER.peer_id).message
    assert said.reason == Release.SANDBOX_FAILED
    assert 0 < len(said.detail.encode()) <= DETAIL_BYTES
