"""Topics: a node that can serve a call hears it, and others are not bothered.

Spec: specs/discovery.md#topics.
"""

from hypothesis import given

from protocol.rules.matching import demand_of_call, mismatches
from protocol.rules.topics import RECORDS, call_topic, topics_of
from protocol.values.ids import PeerId
from protocol.wire.job import Resources
from protocol.wire.messages import Call, CapabilityRecord, GpuGroup
from tests.strategies import records


def record(**more: object) -> CapabilityRecord:
    return CapabilityRecord(1, 0, 1, (), **{"providing": True, **more})


def call(gpus: int, region: str, gpu_class: str = "") -> Call:
    wanted = Resources(gpus=gpus, gpu_class=gpu_class)
    return Call(bytes(16), 1, 0, wanted, 1, 1_000, 100, 0, 2_000, 0, bytes(32), 0, region)


def test_topics_of_nodes() -> None:
    group = (GpuGroup("a", 1, 1),)
    assert topics_of(record(providing=False, region="eu", gpus=group)) == (RECORDS,)
    assert topics_of(record()) == (RECORDS, "call/cpu/any")
    assert topics_of(record(region="eu", gpus=group)) == (
        RECORDS, "call/cpu/any", "call/cpu/eu", "call/gpu/any", "call/gpu/eu", "call/gpu-a/any",
        "call/gpu-a/eu",
    )  # fmt: skip


def test_topics_of_calls() -> None:
    assert call_topic(call(0, "")) == "call/cpu/any"
    assert call_topic(call(2, "br")) == "call/gpu/br"
    assert call_topic(call(2, "br", "h100")) == "call/gpu-h100/br"


def test_a_peer_may_subscribe_to_all_topics_of_a_node() -> None:
    """The limits are those of specs/gossip.md#limits."""
    groups = tuple(GpuGroup(f"{number:040}", 1, 1) for number in range(8))
    topics = topics_of(record(region="r" * 32, gpus=groups))
    assert len(topics) == 21 < 64
    assert max(map(len, topics)) + len("/mutirao//") + 32 <= 128


@given(records(Call), records(CapabilityRecord))
def test_who_can_serve_a_call_hears_it(wanted: Call, known: CapabilityRecord) -> None:
    if not mismatches(demand_of_call(wanted), PeerId("anybody"), known):
        assert call_topic(wanted) in topics_of(known)
