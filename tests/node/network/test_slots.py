"""Nobody takes all places, and whoever is known keeps its own.

Spec: specs/network.md#slots.
"""

import itertools

import pytest

from node.network.slots import FOR_STRANGERS, SlotClaim, Slots

TURN_S = 60


class House:
    """Slots whose holders have names; each arrival is one second after the last."""

    def __init__(self, total, per_source):
        self.slots = Slots(total, per_source, TURN_S)
        self.inside = {}
        self.known = set()
        self.clock = itertools.count()

    def arrive(self, name, host, **changes):
        slot = SlotClaim(host, lambda: self.inside.pop(name), lambda: name in self.known, **changes)
        if not self.slots.admit(slot, next(self.clock)):
            return False
        self.inside[name] = slot
        assert len(self.slots) == len(self.inside)
        return True

    def wait(self, seconds):
        self.clock = itertools.count(next(self.clock) + seconds)


def host(number):
    """An IPv4 address; each has a site of its own."""
    return f"198.{number // 256}.{number % 256}.1"


def test_one_source_gets_its_share_and_no_more():
    house = House(100, 4)
    arrivals = [house.arrive(number, host(0)) for number in range(40)]
    assert sum(arrivals) == len(house.inside) == 4
    assert all(house.arrive(number, host(number)) for number in range(100, 190))


def test_a_source_is_a_network_of_ipv6():
    house = House(100, 4)
    assert [house.arrive(n, f"2001:db8::{n}") for n in range(1, 7)] == [True] * 4 + [False] * 2
    assert house.arrive("other", "2001:db8:0:1::1")


def test_of_one_source_strangers_take_turns():
    house = House(100, 4)
    for number in range(4):
        house.arrive(number, host(0))
    assert not house.arrive("early", host(0))
    house.wait(TURN_S)
    assert house.arrive("late", host(0))
    assert set(house.inside) == {1, 2, 3, "late"}


def test_a_newcomer_from_elsewhere_finds_a_place():
    house = House(32, 4)
    for number in range(1000):  # 200 addresses.
        house.arrive(number, host(number % 200))
    assert len(house.inside) == 32
    assert house.arrive("honest", "203.0.113.1")
    assert "honest" in house.inside


def test_the_most_crowded_site_gives_way():
    house = House(8, 4)
    for number in range(5):  # One rents a /24, of which it uses each address.
        house.arrive(f"evil {number}", f"198.51.100.{number}")
    for number in range(3):
        house.arrive(f"honest {number}", host(number))
    for number in range(3, 6):
        assert house.arrive(f"honest {number}", host(number))
    assert [name for name in house.inside if name.startswith("evil")] == ["evil 3", "evil 4"]
    assert not house.arrive("evil again", "198.51.100.77")


def test_coming_again_and_again_wins_nothing():
    house = House(8, 4)
    house.arrive("honest", "203.0.113.1")
    for number in range(1000):
        house.arrive(number, host(number % 5))
    assert "honest" in house.inside


def test_known_peers_do_not_give_way_to_strangers():
    house = House(32, 4)
    house.known = {f"known {number}" for number in range(20)}
    for name in house.known:
        assert house.arrive(name, host(0))  # Nor do they count for their source.
    for number in range(1000):
        house.arrive(number, host(number))
    assert house.known <= set(house.inside)
    assert len(house.inside) == 32


def test_a_stranger_that_becomes_known_keeps_its_place():
    house = House(8, 8)
    for number in range(8):
        house.arrive(number, host(0))
    house.known.add(0)
    assert house.arrive("other", host(1))
    assert set(house.inside) == {0, 2, 3, 4, 5, 6, 7, "other"}


def test_known_peers_leave_some_places_to_strangers():
    house = House(32, 4)
    house.known = set(range(1000))
    for number in range(1000):
        house.arrive(number, host(0))
    for number in range(1000, 1004):
        assert house.arrive(number, host(number))
    kept = set(range(32 - 32 // FOR_STRANGERS))  # Who is known for long stays.
    assert kept == set(house.inside) & house.known
    assert set(range(1000, 1004)) < set(house.inside)


def test_a_known_peer_finds_a_place_among_strangers_of_its_site():
    house = House(8, 8)
    for number in range(8):
        house.arrive(number, host(0))
    house.known.add("known")
    assert house.arrive("known", host(0))


def test_what_we_choose_does_not_count_by_source():
    house = House(8, 2)
    assert all(house.arrive(number, host(0), shares_source=False) for number in range(8))
    assert house.arrive("other", host(1))


def test_a_place_is_given_back():
    house = House(8, 1)
    house.arrive("first", host(0))
    assert not house.arrive("second", host(0))
    house.slots.give_back(house.inside.pop("first"))
    house.slots.give_back(SlotClaim(host(9), list))  # Of one that was evicted: nothing happens.
    assert house.arrive("second", host(0))


@pytest.mark.parametrize("total", [1, 2, 7, 8, 256])
def test_any_number_of_places_works(total):
    house = House(total, 1)
    house.known = set(range(1000))
    for number in range(2 * total):
        assert house.arrive(number, host(number))
        assert len(house.inside) <= total
