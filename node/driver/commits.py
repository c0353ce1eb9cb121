"""Converts the durable effects of the core into one transaction.

Spec: specs/core.md#outbox.
"""

from collections.abc import Sequence

from node.driver.job_events import detail_of, kind_of
from node.storage.journal import Commit, NewEvent, NewMessage, ReceiptRow, Snapshot
from protocol.core.jobs import Job
from protocol.machines.effects import Effect, Report, Save, Send, Settle
from protocol.values.ids import PeerId
from protocol.wire.snapshot import to_snapshot


def commit_of(effects: Sequence[Effect], own: PeerId, now_ms: int) -> Commit | None:
    """Return the commit that must precede the effects; None if none of them is durable.

    Of the states of one machine only the last is written.
    """
    saves = {(effect.table, effect.key): effect for effect in effects if isinstance(effect, Save)}
    commit = Commit(
        snapshots=tuple(_snapshot(save) for save in saves.values()),
        events=tuple(
            NewEvent(effect.job_id, now_ms, kind_of(effect.event), detail_of(effect.event))
            for effect in effects
            if isinstance(effect, Report)
        ),
        receipts=tuple(
            _receipt(effect, own, now_ms) for effect in effects if isinstance(effect, Settle)
        ),
        outbox=tuple(
            NewMessage(effect.peer, effect.envelope, effect.until_ms)
            for effect in effects
            if isinstance(effect, Send) and effect.in_outbox
        ),
    )
    return None if commit == Commit() else commit


def _snapshot(effect: Save) -> Snapshot:
    state = effect.state
    if state is None:
        return Snapshot(effect.table, effect.key, "", None)
    if isinstance(state, Job):
        name, spec = state.ending.value, state.spec
        return Snapshot(effect.table, effect.key, name, to_snapshot(state), spec.key, spec.place)
    return Snapshot(effect.table, effect.key, type(state).__name__, to_snapshot(state))


def _receipt(effect: Settle, own: PeerId, now_ms: int) -> ReceiptRow:
    provides = effect.provider == own
    return ReceiptRow(
        effect.lease_id,
        "provider" if provides else "requester",
        effect.requester if provides else effect.provider,
        effect.usage_ms,
        effect.amount,
        now_ms,
        effect.proposal,
        effect.countersign,
        effect.voucher,
    )
