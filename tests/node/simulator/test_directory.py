"""The table of records that all nodes share, and the order in which each sees it.

Spec: specs/simulation.md#directory.
"""

import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.simulator import directory
from node.simulator.directory import SharedDirectory, SharedRecords
from node.simulator.identities import Numbers
from protocol.core.directory import Directory, DirectoryView
from protocol.values.limits import RECORD_REFRESH_MS, RECORD_TTL_MS
from protocol.wire.messages import CapabilityRecord

NOW_MS = 1_800_000_000_000
NAMES = Numbers(0)


def shared(providers: range, gone_ms: dict[int, int] | None = None) -> SharedRecords:
    def record_of(number: int) -> CapabilityRecord:
        return CapabilityRecord(number, NOW_MS, RECORD_TTL_MS, (), True)

    return SharedRecords(NAMES, providers, record_of, {} if gone_ms is None else gone_ms)


def numbers(
    view: SharedDirectory, now_ms: int = NOW_MS, start: int = 0, step: int = 1
) -> list[int]:
    return [one.record.sequence for one in view.providers(now_ms, start, step)]


@settings(max_examples=40)
@given(st.integers(0, 10), st.integers(0, 200), st.integers(0, 2**62))
def test_each_node_meets_every_provider_once(first: int, count: int, draw: int) -> None:
    view = SharedDirectory(shared(range(first, first + count)), draw)
    assert sorted(numbers(view)) == list(range(first, first + count))
    assert view.count_providers() == len(view) == count


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(0, 2**62), st.integers(0, 70), st.integers(1, 9))
def test_every_so_many_from_a_place_on(count: int, draw: int, start: int, step: int) -> None:
    view = SharedDirectory(shared(range(count)), draw)
    assert numbers(view, start=start, step=step) == numbers(view)[start::step]


def test_nodes_see_the_table_in_orders_of_their_own() -> None:
    records = shared(range(101))
    orders = {tuple(numbers(SharedDirectory(records, draw * 10**12 + 7))) for draw in range(50)}
    assert len(orders) == 50


@settings(max_examples=40)
@given(st.integers(0, 2 * RECORD_TTL_MS), st.lists(st.integers(0, 2 * RECORD_TTL_MS), max_size=5))
def test_a_record_is_known_until_it_expires_after_its_node_has_gone(
    gone_after_ms: int, looks: list[int]
) -> None:
    gone: dict[int, int] = {}
    records = shared(range(3, 6), gone)
    view = SharedDirectory(records, 1)
    for look_ms in sorted(looks):
        now_ms = NOW_MS + look_ms
        if look_ms >= gone_after_ms:
            gone[4] = NOW_MS + gone_after_ms
        expired = 4 in gone and look_ms >= gone_after_ms + RECORD_TTL_MS
        assert sorted(numbers(view, now_ms)) == ([3, 5] if expired else [3, 4, 5])
        assert (view.get(NAMES.peer_of(4), now_ms) is None) == expired
        for listing in view.listings(now_ms):
            assert now_ms < listing.expires_ms <= now_ms + RECORD_TTL_MS
            if listing.record.sequence == 4 and 4 in gone:
                assert listing.expires_ms == gone[4] + RECORD_TTL_MS
            else:
                assert listing.expires_ms >= now_ms + RECORD_TTL_MS - RECORD_REFRESH_MS
    gone.clear()
    assert sorted(numbers(view, NOW_MS + 9 * RECORD_TTL_MS)) == [3, 4, 5]


def test_only_nodes_that_lend_have_a_record() -> None:
    view = SharedDirectory(shared(range(3, 6)), 1)
    assert view.get(NAMES.peer_of(2), NOW_MS) is None
    found = view.get(NAMES.peer_of(3), NOW_MS)
    assert found is not None
    assert found.sequence == 3


def test_a_listing_names_its_peer() -> None:
    for listing in SharedDirectory(shared(range(3, 6)), 1).listings(NOW_MS):
        assert listing.peer == NAMES.peer_of(listing.record.sequence)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "LISTINGS_KEPT_MAX", 10)
    records = shared(range(35))
    view = SharedDirectory(records, 1)
    for _ in range(2):
        assert len(numbers(view)) == 35
        assert len(records._listed) <= 10


def test_nothing_is_stored_in_a_view() -> None:
    view = SharedDirectory(shared(range(3)), 1)
    record = CapabilityRecord(9, NOW_MS, RECORD_TTL_MS, (), True)
    assert not view.add(NAMES.peer_of(1), record, "", NOW_MS)
    view.protect(NAMES.peer_of(1))
    view.expose(NAMES.peer_of(1), "")
    view.expire(NOW_MS + 9 * RECORD_TTL_MS)
    assert sorted(numbers(view)) == [0, 1, 2]


@pytest.mark.parametrize("view", [Directory, SharedDirectory])
def test_a_core_can_be_given_either_directory(view: type) -> None:
    asked = [name for name, each in vars(DirectoryView).items() if inspect.isfunction(each)]
    names = [name for name in asked if not name.startswith("_") or name == "__len__"]
    assert len(names) == 9
    for name in names:
        signatures = (inspect.signature(getattr(owner, name)) for owner in (view, DirectoryView))
        one, other = signatures
        assert one == other, name
