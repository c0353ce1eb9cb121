"""Whom and what an owner serves, and for how much. Spec: specs/owner.md#who-is-served."""

import pytest

from protocol.rules.capacity import Device
from protocol.rules.owner_rules import OwnerRules, image_objection, least_ask, objection
from protocol.rules.pricing import part_of
from protocol.values.ids import Digest
from protocol.wire.job import Resources
from tests.strategies import SIGNERS

ANN, AMY = SIGNERS[1].peer_id, SIGNERS[2].peer_id
ONE, TWO = Digest(bytes(32)), Digest(bytes([1]) * 32)
LISTS = OwnerRules(frozenset({ANN}), frozenset({AMY}), frozenset({ONE}), frozenset({TWO}))


def test_lists_of_peers_and_images() -> None:
    assert objection(OwnerRules(), ANN, ONE) == ""
    assert objection(LISTS, ANN, ONE) == ""
    assert objection(LISTS, AMY, ONE) == "deny-peers"
    assert objection(LISTS, SIGNERS[3].peer_id, ONE) == "allow-peers"
    assert objection(LISTS, ANN, TWO) == "deny-images"
    assert image_objection(LISTS, Digest(bytes([2]) * 32)) == "allow-images"


def test_what_is_denied_is_denied_though_it_is_allowed() -> None:
    both = OwnerRules(frozenset({ANN}), frozenset({ANN}), frozenset({ONE}), frozenset({ONE}))
    assert objection(both, ANN, ONE) == "deny-peers"
    assert image_objection(both, ONE) == "deny-images"


FLOORS = OwnerRules(gpu_floors=(("h100-80gb", 500), ("t4-16gb", 50)))
H100, T4 = Device("GPU-1", "h100-80gb", 81_559), Device("GPU-2", "t4-16gb", 15_360)


@pytest.mark.parametrize(
    "wanted, left, least",
    [
        (Resources(1), (H100, T4), 0),
        (Resources(1, gpus=2), (H100, T4), 7 + 2 * 500),
        (Resources(1, gpus=1, gpu_class="t4-16gb"), (H100, T4), 7 + 50),
        (Resources(1, gpus=1, vram_mib=20 * 1024), (H100, T4), 7 + 500),
        (Resources(1, gpus=1), (T4,), 7 + 50),
        (Resources(1, gpus=1), (Device("GPU-3", "l4-24gb", 24_000),), 0),
    ],
)
def test_a_slot_costs_at_least_the_dearest_gpu_that_it_may_get(
    wanted: Resources, left: tuple[Device, ...], least: int
) -> None:
    assert least_ask(FLOORS, wanted, left, 7) == least


def test_a_share_is_rounded_up() -> None:
    assert [part_of(10, 50), part_of(11, 50), part_of(11, 100)] == [5, 6, 11]
