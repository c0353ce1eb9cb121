"""Addresses of the configuration, and the book of peers' addresses.

Spec: specs/network.md.
"""

import pytest
from multiaddr import Multiaddr

from node.network.addresses import (
    ADDRESSES_PER_PEER_MAX,
    BACK_OFF_MAX_MS,
    BOOTSTRAP_BACK_OFF_MAX_MS,
    PEERS_MAX,
    AddressBook,
    parse_address,
    parse_peer_address,
    reachable,
    source_of,
)
from protocol.values.errors import InvalidRequest
from protocol.values.ids import PeerId, peer_id_of

ADA = peer_id_of(bytes(range(32)))
HOME = Multiaddr("/ip4/192.0.2.1/tcp/4788")


@pytest.mark.parametrize("text", ["/ip4/1.2.3.4/tcp/1", "/ip6/::1/tcp/1", "/dns4/a.test/tcp/1"])
def test_good_addresses(text):
    assert str(parse_address(text)) == text
    assert parse_peer_address(f"{text}/p2p/{ADA}") == (ADA, Multiaddr(text))


@pytest.mark.parametrize(
    "text", ["", "x", "/ip4/1.2.3.4", "/ip4/1.2.3/tcp/1", "/ip4/1.2.3.4/udp/1"]
)
def test_bad_addresses(text):
    with pytest.raises(InvalidRequest):
        parse_address(text)
    with pytest.raises(InvalidRequest):
        parse_peer_address(f"{text}/p2p/{ADA}")


def test_the_first_address_is_tried_first():
    book = AddressBook()
    book.learn(ADA, [HOME])
    book.learn(ADA, [Multiaddr(f"/ip4/192.0.2.2/tcp/1/p2p/{ADA}")], first=True)
    assert book.addresses(ADA) == [Multiaddr("/ip4/192.0.2.2/tcp/1"), HOME]


def test_the_book_is_bounded():
    book = AddressBook()
    book.learn_bootstrap(ADA, HOME)
    book.learn(ADA, [Multiaddr(f"/ip4/192.0.2.1/tcp/{port}") for port in range(1, 100)])
    assert len(book.addresses(ADA)) == ADDRESSES_PER_PEER_MAX
    for i in range(PEERS_MAX + 10):
        book.learn(PeerId(str(i)), [HOME])
    bootstrap, others = book.due(0)
    assert bootstrap == [ADA]
    assert len(others) == PEERS_MAX - 1


def test_failures_make_a_peer_wait_and_success_ends_it():
    book = AddressBook()
    book.learn_bootstrap(ADA, HOME)
    book.learn(PeerId("bob"), [HOME])
    for _ in range(30):
        book.dialled(ADA, 0, reached=False)
        book.dialled(PeerId("bob"), 0, reached=False)
    assert book.due(0) == ([], [])
    assert BOOTSTRAP_BACK_OFF_MAX_MS <= 5_000
    assert book.due(BOOTSTRAP_BACK_OFF_MAX_MS) == ([ADA], [])
    assert book.due(BACK_OFF_MAX_MS) == ([ADA], [PeerId("bob")])
    book.dialled(PeerId("bob"), 0, reached=True)
    assert book.due(0) == ([], [PeerId("bob")])


def test_wildcards_are_not_told_to_others():
    told = [str(address) for address in reachable([Multiaddr("/ip4/0.0.0.0/tcp/4788"), HOME])]
    assert told[1] == str(HOME)
    assert told[0].endswith("/tcp/4788")
    assert "0.0.0.0" not in told[0]
    assert "/ip6/::/" not in str(reachable([Multiaddr("/ip6/::/tcp/1")])[0])


@pytest.mark.parametrize(
    "host, source",
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_a_household_is_one_source(host, source):
    assert source_of(host) == source
