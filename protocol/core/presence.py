"""The node's own capability record: announced, refreshed and withdrawn.

Spec: specs/discovery.md#own-record.
"""

from typing import Final

from protocol.machines.context import Context
from protocol.machines.effects import Advertise, Effect, Publish, Send
from protocol.machines.inputs import (
    DeadlineReached,
    DevicesWithheld,
    PeerConnected,
    PolicyChanged,
)
from protocol.rules.topics import RECORDS
from protocol.values.egress import level_of
from protocol.values.limits import GREETING_MS, RECORD_REFRESH_MS, RECORD_TTL_MS
from protocol.wire.messages import CapabilityRecord, GpuGroup
from protocol.wire.messages.record import IMAGES_MAX

ADDRESS_BYTES_MAX: Final = 128


class Presence:
    """What this node announces about itself."""

    def __init__(self) -> None:
        self.sequence = 0
        self.envelope = b""
        self.record: CapabilityRecord | None = None
        self.refresh_ms: int | None = None

    def handle(
        self,
        event: PolicyChanged | DevicesWithheld | PeerConnected | DeadlineReached,
        context: Context,
    ) -> list[Effect]:
        """Announce a changed record, send it to a new peer, or refresh it when due."""
        match event:
            case PeerConnected(peer):
                until_ms = context.now_ms + GREETING_MS
                greeting = Send(peer, self.envelope, until_ms, durable=False)
                return [greeting] if self.envelope else []
            case DeadlineReached() if self.refresh_ms is None or context.now_ms < self.refresh_ms:
                return []
            case DevicesWithheld() if not context.policy.providing:
                return []
            case _:
                self.refresh_ms = context.now_ms + RECORD_REFRESH_MS
                return self._announce(record_of(context, self._next_sequence(context)), context)

    def withdraw(self, context: Context) -> list[Effect]:
        """Withdraw the record: this node lends nothing any more."""
        if not self.envelope:
            return []
        self.refresh_ms = None
        record = CapabilityRecord(self._next_sequence(context), context.now_ms, 0, (), False)
        return self._announce(record, context)

    def _announce(self, record: CapabilityRecord, context: Context) -> list[Effect]:
        signed = context.signer.sign(record)
        self.envelope, self.record = signed.envelope, record
        return [Publish(RECORDS, signed.envelope), Advertise(signed.envelope, record.sequence)]

    def _next_sequence(self, context: Context) -> int:
        # Using the time makes the number grow even if the last one was lost.
        self.sequence = max(self.sequence + 1, context.now_ms)
        return self.sequence


def addresses_of(context: Context) -> tuple[str, ...]:
    """Return this node's addresses that fit into a message."""
    return tuple(
        text for text in context.policy.addresses if len(text.encode()) <= ADDRESS_BYTES_MAX
    )


def record_of(context: Context, sequence: int) -> CapabilityRecord:
    """Return the record that the policy describes."""
    policy = context.policy
    has = policy.capacity
    kinds = {(d.gpu_class, d.vram_mib, d.name) for d in has.devices}
    gpus = tuple(
        GpuGroup(gpu_class, sum((d.gpu_class, d.vram_mib, d.name) == kind for d in has.devices),
                 vram_mib, name)
        for kind in sorted(kinds)
        for gpu_class, vram_mib, name in [kind]
    )  # fmt: skip
    return CapabilityRecord(
        sequence, context.now_ms, RECORD_TTL_MS, addresses_of(context)[:4], policy.providing,
        policy.region, has.cpus, has.memory_mib, has.disk_mib, gpus[:8],
        (policy.driver,) if policy.driver else (), policy.prices,
        context.preparation.images[:IMAGES_MAX], policy.agent, policy.soft_limits, policy.isolation,
        layers=context.preparation.layers[:IMAGES_MAX], egress=level_of(policy.egress).value,
    )  # fmt: skip
