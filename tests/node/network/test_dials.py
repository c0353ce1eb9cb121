"""A third party is left alone, whoever names its address.

Spec: specs/network.md#dialling.
"""

import pytest
from multiaddr import Multiaddr

from node.network import dials
from node.network.addresses import Kind
from node.network.dials import PER_ENDPOINT, PER_SOURCE, UNASKED, Dials

pytestmark = pytest.mark.usefixtures("autojump_clock")


def at(host, port=1):
    return Multiaddr(f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}")


def made(*kinds):
    return Dials(lambda: set(kinds))


async def test_one_endpoint_is_dialled_a_few_times():
    found = made()
    begun = [found.begin(at("8.8.8.8"), is_asked=True) for _ in range(100)]
    assert sum(begun) == PER_ENDPOINT[0]
    assert found.begin(at("8.8.8.8", 2), is_asked=True)
    assert found.begin(at("8.8.4.4"), is_asked=True)


@pytest.mark.parametrize("hosts", [["8.8.8.8"] * 100, [f"2a00::{n:x}" for n in range(1, 101)]])
async def test_one_source_is_dialled_a_few_times_at_whatever_port(hosts):
    found = made()
    begun = [found.begin(at(host, port), is_asked=True) for port, host in enumerate(hosts, 1)]
    assert sum(begun) == PER_SOURCE[0]


async def test_who_answers_as_the_one_that_was_named_is_no_third_party():
    found = made()
    for _ in range(100):
        assert found.begin(at("8.8.8.8"), is_asked=False)
        found.succeeded(at("8.8.8.8"), is_asked=False)


async def test_what_nobody_asked_for_is_limited_in_all():
    found = made()
    begun = [found.begin(at(f"8.8.{n}.8"), is_asked=False) for n in range(200)]
    assert sum(begun) == UNASKED[0]
    assert found.begin(at("8.9.9.9"), is_asked=True)


async def test_an_attempt_that_is_not_made_costs_nothing():
    found = made()
    for _ in range(100):
        found.begin(at("8.8.8.8"), is_asked=True)
    assert found.begin(at("8.8.8.8", 2), is_asked=True)  # Its source has room.


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1"])
async def test_strangers_lead_us_only_to_kinds_of_addresses_that_we_have(host):
    assert not made().begin(at(host), is_asked=True)
    kinds = made(Kind.PRIVATE, Kind.LOOPBACK, Kind.LINK_LOCAL)
    assert kinds.begin(at(host), is_asked=True)
    assert made().begin(Multiaddr("/dns4/a.test/tcp/1"), is_asked=True)


async def test_only_so_many_targets_are_remembered(monkeypatch):
    monkeypatch.setattr(dials, "TARGETS_MAX", 10)
    found = made()
    for number in range(100):
        found.begin(at(f"8.8.{number}.8"), is_asked=True)
    assert len(found._targets) == 10
