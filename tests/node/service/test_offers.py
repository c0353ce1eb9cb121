"""Records as the API shows them: prices an hour, and what is left of our own.

Spec: specs/rpc.md#views.
"""

from node.service.offers import offer_view, resources_view
from protocol.core.presence import record_of
from protocol.machines.context import Context
from protocol.rules.capacity import Capacity, Device
from protocol.wire.messages import Listing
from tests.node.fixtures import BEA
from tests.simulated_network import provider_policy

RECORD = record_of(Context(1_000, BEA, provider_policy(cpu=277_777, region="europe")), 7)
LISTING = Listing(BEA.peer_id, RECORD, 61_000)


def test_anothers_record() -> None:
    view = offer_view(LISTING, 1_000, None)
    assert (view.peer, view.own, view.free) == (BEA.peer_id, False, None)
    assert (view.cpus, view.memory_mib, view.region, view.drivers) == (
        4, 4096, "europe", ("embedded",),
    )  # fmt: skip
    assert (view.price_cpu_hour, view.sequence, view.expires_in_ms) == ("1.0000", 7, 60_000)


def test_our_own_says_what_is_left() -> None:
    view = offer_view(LISTING, 99_000, Capacity(1, 2, 3))
    assert view.own
    assert view.free == resources_view(Capacity(1, 2, 3))
    assert view.expires_in_ms == 0


def test_devices_are_counted() -> None:
    capacity = Capacity(1, 2, 3, (Device("a", "h200", 1), Device("b", "h200", 1)))
    assert resources_view(capacity).gpus == 2
