"""What many transitions of a provider's lease do: save it, release it, end it.

Spec: specs/lease.md#provider.
"""

from typing import Final

from protocol.machines.context import Context
from protocol.machines.effects import Drop, Save, Send
from protocol.machines.provider.lease.states import Ended, Hold, State, Step
from protocol.values.limits import MESSAGE_MS
from protocol.values.reasons import Release
from protocol.wire.messages import LeaseRelease, Released
from protocol.wire.schema import text_within

DETAIL_BYTES: Final = 512
"""The longest explanation that a message carries."""


def save(state: State) -> Save:
    """Return the effect that saves the state, or deletes a lease that has ended."""
    return Save("provider-lease", state.hold.lease_id, None if isinstance(state, Ended) else state)


def release(hold: Hold, reason: Release, why: str, context: Context) -> Step:
    """Release the lease with a reason."""
    return end(hold, LeaseRelease(hold.lease_id, reason, text_within(why, DETAIL_BYTES)), context)


def release_stopping(hold: Hold, context: Context) -> Step:
    """Release the lease without a bill: our owner stops the node, or reclaims the machine."""
    return release(hold, Release.STOPPING, "the provider's owner takes the machine back", context)


def end(hold: Hold, last_word: LeaseRelease | Released, context: Context) -> Step:
    """Send the final Released and delete the lease."""
    ended = Ended(hold)
    said = context.signer.sign(last_word).envelope
    send = Send(hold.requester, said, context.now_ms + MESSAGE_MS)
    return ended, (save(ended), send, Drop(hold.lease_id))
