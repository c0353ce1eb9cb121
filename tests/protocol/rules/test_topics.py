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


def call(gpus: int, region: str) -> Call:
    wanted = Resources(gpus=gpus)
    return Call(bytes(16), 1, 0, wanted, 1, 1_000, 100, 0, 2_000, 0, bytes(32), 0, region)


def test_topics_of_nodes() -> None:
    group = (GpuGroup("a", 1, 1),)
    assert topics_of(record(providing=False, region="eu", gpus=group)) == (RECORDS,)
    assert topics_of(record()) == (RECORDS, "call/cpu/any")
    assert topics_of(record(region="eu", gpus=group)) == (
        RECORDS, "call/cpu/any", "call/cpu/eu", "call/gpu/any", "call/gpu/eu",
    )  # fmt: skip


def test_topics_of_calls() -> None:
    assert call_topic(call(0, "")) == "call/cpu/any"
    assert call_topic(call(2, "br")) == "call/gpu/br"


@given(records(Call), records(CapabilityRecord))
def test_who_can_serve_a_call_hears_it(wanted: Call, known: CapabilityRecord) -> None:
    if not mismatches(demand_of_call(wanted), PeerId("anybody"), known):
        assert call_topic(wanted) in topics_of(known)
