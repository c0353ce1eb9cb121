"""Records as the API shows them: prices an hour, what is left of our own, and queries.

Spec: specs/rpc.md#views, specs/query.md.
"""

from dataclasses import replace

import pytest

from node.service.offers import offer_view, resources_view, select
from protocol.core.presence import record_of
from protocol.machines.context import Context
from protocol.rules.capacity import Capacity, Device
from protocol.rules.query_fields import Subject, subjects_of
from protocol.values.errors import InvalidQuery
from protocol.wire.messages import GpuGroup
from tests.node.fixtures import BEA
from tests.simulated_network import provider_policy

POLICY = replace(provider_policy(cpu=277_777, region="europe"), agent="m/1", isolation=2)
RECORD = record_of(Context(1_000, BEA, POLICY), 7)
SUBJECT = Subject(BEA.peer_id, RECORD, None, 3_541_000, connected=True)


def test_anothers_record() -> None:
    view = offer_view(SUBJECT, None)
    assert (view.peer, view.own, view.free) == (BEA.peer_id, False, None)
    assert (view.cpus, view.memory_mib, view.region, view.drivers) == (
        4, 4096, "europe", ("embedded",),
    )  # fmt: skip
    assert (view.price_cpu_hour, view.sequence, view.expires_in_ms) == ("1.0000", 7, 60_000)
    assert (view.price_hour, view.isolation, view.agent) == ("1.0000", "gvisor", "m/1")
    assert (view.settled, view.connected) == (False, True)


def test_our_own_says_what_is_left() -> None:
    view = offer_view(replace(SUBJECT, now_ms=9_000_000), Capacity(1, 2, 3))
    assert view.own
    assert view.free == resources_view(Capacity(1, 2, 3))
    assert view.expires_in_ms == 0


def test_devices_are_counted() -> None:
    capacity = Capacity(1, 2, 3, (Device("a", "h200", 1), Device("b", "h200", 1)))
    assert resources_view(capacity).gpus == 2


def kinds(**changes) -> tuple[Subject, ...]:
    record = replace(RECORD, **changes)
    return tuple(subjects_of(BEA.peer_id, record, 0, settled=False, connected=False))


def test_a_query_selects_providers_in_order() -> None:
    small, large = GpuGroup("l4", 1, 23_034), GpuGroup("h200", 1, 143_771)
    known = [kinds(gpus=(small,)), kinds(gpus=(small, large)), kinds(providing=False), kinds()]
    found = select(known, "gpus>=1", "-vram")
    assert [subject.gpus for subject in found] == [small, small]
    assert [subject.gpus for subject in select(known, "vram>1", "-vram")] == [small, small]
    assert [subject.gpus for subject in select(known, "vram>=80G", "")] == [large]
    assert len(select(known, "", "price")) == 3


@pytest.mark.parametrize("where,sort", [("cpu=1", ""), ("", "cpu")])
def test_a_fault_is_told(where: str, sort: str) -> None:
    with pytest.raises(InvalidQuery):
        select([kinds()], where, sort)
