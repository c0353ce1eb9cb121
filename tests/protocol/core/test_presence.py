"""Our own record: announced, refreshed, withdrawn, and never too large for gossip.

Spec: specs/discovery.md#own-record.
"""

from dataclasses import replace

from hypothesis import given

from protocol.core.presence import Presence, record_of
from protocol.machines.context import Context, Policy
from protocol.machines.effects import Advertise, Publish, Send
from protocol.machines.inputs import DeadlineReached, PeerConnected, PolicyChanged
from protocol.rules.capacity import Capacity, Device
from protocol.rules.start_promise import Preparation
from protocol.rules.topics import RECORDS
from protocol.values.limits import GOSSIP_BYTES_MAX, GREETING_MS, RECORD_REFRESH_MS
from protocol.wire.envelope import open_envelope
from protocol.wire.messages import CapabilityRecord, GpuGroup
from tests.driven import POLICY, START_MS
from tests.strategies import SIGNERS, records

CONTEXT = Context(START_MS, SIGNERS[0], POLICY)
PEER = SIGNERS[1].peer_id


def later(ms: int) -> Context:
    return replace(CONTEXT, now_ms=START_MS + ms)


def announced(effects: list[object]) -> CapabilityRecord:
    publish, advertise = effects
    assert isinstance(publish, Publish)
    assert publish.topic == RECORDS
    record = open_envelope(publish.envelope, SIGNERS[0].network_id, PEER).message
    assert advertise == Advertise(publish.envelope, record.sequence)
    return record


def test_a_changed_policy_is_announced_with_a_higher_number() -> None:
    presence = Presence()
    first = announced(presence.handle(PolicyChanged(POLICY), CONTEXT))
    second = announced(presence.handle(PolicyChanged(POLICY), CONTEXT))
    assert first.cpus == POLICY.capacity.cpus
    assert START_MS <= first.sequence < second.sequence


def test_prepared_images_are_in_the_record() -> None:
    images = tuple(bytes([number]) * 8 for number in range(20))
    prepared = replace(CONTEXT, preparation=Preparation(images=images, layers=images[10:]))
    record = record_of(prepared, 1)
    assert (record.images, record.layers) == (images[:8], images[10:18])


def test_numbers_grow_even_if_the_last_was_forgotten() -> None:
    old = announced(Presence().handle(PolicyChanged(POLICY), CONTEXT))
    new = announced(Presence().handle(PolicyChanged(POLICY), later(1)))
    assert old.sequence < new.sequence


def test_a_record_is_refreshed_when_it_is_time_and_not_before() -> None:
    presence = Presence()
    presence.handle(PolicyChanged(POLICY), CONTEXT)
    assert presence.refresh_ms == START_MS + RECORD_REFRESH_MS
    assert presence.handle(DeadlineReached(), later(RECORD_REFRESH_MS - 1)) == []
    announced(presence.handle(DeadlineReached(), later(RECORD_REFRESH_MS)))


def test_a_new_peer_is_greeted_with_the_record() -> None:
    presence = Presence()
    assert presence.handle(PeerConnected(PEER), CONTEXT) == []
    presence.handle(PolicyChanged(POLICY), CONTEXT)
    greeting = Send(PEER, presence.envelope, CONTEXT.now_ms + GREETING_MS, durable=False)
    assert presence.handle(PeerConnected(PEER), CONTEXT) == [greeting]


def test_a_withdrawal_is_a_record_that_is_over_at_once() -> None:
    presence = Presence()
    assert presence.withdraw(CONTEXT) == []
    first = announced(presence.handle(PolicyChanged(POLICY), CONTEXT))
    last = announced(presence.withdraw(CONTEXT))
    assert (last.ttl_ms, last.providing) == (0, False)
    assert last.sequence > first.sequence
    assert presence.handle(DeadlineReached(), later(10 * RECORD_REFRESH_MS)) == []


def test_devices_are_grouped_by_kind() -> None:
    devices = tuple(
        Device(str(number), kind, vram_mib, "name")
        for number, (kind, vram_mib) in enumerate([("b", 8), ("a", 8), ("b", 8), ("a", 80)])
    )
    policy = replace(POLICY, capacity=Capacity(1, 1, 1, devices))
    assert record_of(replace(CONTEXT, policy=policy), 1).gpus == (
        GpuGroup("a", 1, 8, "name"), GpuGroup("a", 1, 80, "name"), GpuGroup("b", 2, 8, "name"),
    )  # fmt: skip


def test_a_node_that_offers_nothing_says_so() -> None:
    record = record_of(replace(CONTEXT, policy=Policy()), 1)
    assert not record.providing
    assert record.drivers == ()


def test_limits_that_are_not_the_kernels_are_told() -> None:
    policy = replace(POLICY, soft_limits=("memory", "cpu"))
    assert record_of(replace(CONTEXT, policy=policy), 1).soft_limits == ("memory", "cpu")


@given(records(CapabilityRecord))
def test_every_record_travels_by_gossip(record: CapabilityRecord) -> None:
    assert len(SIGNERS[0].sign(record).envelope) <= GOSSIP_BYTES_MAX
