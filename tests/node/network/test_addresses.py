"""Addresses of the configuration, and the book of peers' addresses.

Spec: specs/network.md.
"""

import pytest
from multiaddr import Multiaddr

from node.network.addresses import (
    ADDRESSES_PER_PEER_MAX,
    BACK_OFF_MAX_MS,
    BACK_OFF_MIN_MS,
    BOOTSTRAP_BACK_OFF_MAX_MS,
    CALLERS_MAX,
    EXAMINED_MAX,
    PEERS_MAX,
    AddressBook,
    Kind,
    dialable,
    kind_of,
    parse_address,
    parse_announced,
    parse_peer_address,
    reachable,
    site_of,
    source_of,
)
from protocol.values.errors import InvalidRequest
from protocol.values.ids import PeerId, peer_id_of
from tests.node.network.odd_addresses import BYTES, TEXTS

ADA = peer_id_of(bytes(range(32)))
HOME = Multiaddr("/ip4/192.0.2.1/tcp/4788")


@pytest.mark.parametrize("text", ["/ip4/1.2.3.4/tcp/1", "/ip6/::1/tcp/1", "/dns4/a.test/tcp/1"])
def test_good_addresses(text):
    assert str(parse_address(text)) == text
    assert parse_peer_address(f"{text}/p2p/{ADA}") == (ADA, Multiaddr(text))
    assert parse_announced(text) == parse_announced(f"{text}/p2p/{ADA}") == Multiaddr(text)


@pytest.mark.parametrize(
    "text", ["", "x", "/ip4/1.2.3.4", "/ip4/1.2.3/tcp/1", "/ip4/1.2.3.4/udp/1", *TEXTS]
)
def test_bad_addresses(text):
    for parse in (parse_address, parse_announced):
        with pytest.raises(InvalidRequest):
            parse(text)
    for parse in (parse_peer_address, parse_announced):
        with pytest.raises(InvalidRequest):
            parse(f"{text}/p2p/{ADA}")


@pytest.mark.parametrize("name", ["", "me", f"{ADA}/", f"{ADA}/p2p/me"])
def test_bad_peer_ids(name):
    for parse in (parse_peer_address, parse_announced):
        with pytest.raises(InvalidRequest):
            parse(f"{HOME}/p2p/{name}")


def test_of_what_peers_tell_only_what_can_be_dialled_stays():
    odd = [Multiaddr(data) for data in BYTES]
    named = Multiaddr(f"/ip4/192.0.2.2/tcp/1/p2p/{ADA}")
    assert dialable([*odd, HOME, named]) == [HOME, Multiaddr("/ip4/192.0.2.2/tcp/1")]
    nowhere = ("/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1", "/ip4/224.0.0.1/tcp/1", "/ip4/1.2.3.4/tcp/0")
    assert dialable(map(Multiaddr, nowhere)) == []


def test_a_peer_that_tells_very_many_is_not_heard_to_the_end():
    told = (Multiaddr(f"/ip4/192.0.2.1/tcp/{port}") for port in range(1, 1000))
    assert len(dialable(told)) == EXAMINED_MAX
    assert str(next(told)).endswith(f"/{EXAMINED_MAX + 1}")


def test_what_strangers_tell_of_a_bootstrap_peer_does_not_hide_it():
    book = AddressBook()
    book.learn_bootstrap(ADA, HOME)
    for first in (True, False):
        lies = [Multiaddr(f"/ip4/198.51.100.{n}/tcp/1") for n in range(ADDRESSES_PER_PEER_MAX)]
        book.learn(ADA, lies, first=first)
        assert book.addresses(ADA)[0] == HOME


@pytest.mark.parametrize(
    "host, kind",
    [
        ("ip4/1.1.1.1", Kind.PUBLIC),
        ("ip6/2a00::1", Kind.PUBLIC),
        ("ip4/10.0.0.1", Kind.PRIVATE),
        ("ip4/172.17.0.1", Kind.PRIVATE),
        ("ip4/192.168.1.1", Kind.PRIVATE),
        ("ip4/100.64.0.1", Kind.PRIVATE),
        ("ip6/fd00::1", Kind.PRIVATE),
        ("ip4/169.254.169.254", Kind.LINK_LOCAL),
        ("ip6/fe80::1", Kind.LINK_LOCAL),
        ("ip4/127.0.0.1", Kind.LOOPBACK),
        ("ip4/127.1.2.3", Kind.LOOPBACK),
        ("ip6/::1", Kind.LOOPBACK),
        ("ip6/::ffff:7f00:1", Kind.LOOPBACK),
        ("ip6/::ffff:a00:1", Kind.PRIVATE),
        ("ip6/2002:7f00:1::1", Kind.LOOPBACK),
        ("ip4/0.0.0.0", Kind.NOWHERE),
        ("ip6/::", Kind.NOWHERE),
        ("ip4/255.255.255.255", Kind.NOWHERE),
        ("ip6/ff02::1", Kind.NOWHERE),
        ("dns/localhost", Kind.NAME),
        ("dns4/a.test", Kind.NAME),
    ],
)
def test_kinds_of_addresses(host, kind):
    assert kind_of(Multiaddr(f"/{host}/tcp/1")) is kind


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


def test_callers_displace_only_callers_and_are_not_dialled_unasked():
    book = AddressBook()
    book.learn(ADA, [HOME])
    for i in range(CALLERS_MAX + 2):
        book.learn_caller(PeerId(str(i)), [HOME])
        book.learn_caller(PeerId("0"), [HOME])  # Its calls are news of it.
    gone = [i for i in range(CALLERS_MAX + 2) if not book.addresses(PeerId(str(i)))]
    assert gone == [1, 2]
    assert book.addresses(ADA) == [HOME]
    assert book.due(0) == ([], [ADA])


def test_where_a_caller_wants_its_answer_is_behind_what_we_know_and_has_a_place():
    book = AddressBook()
    known, called = (
        [Multiaddr(f"/ip4/192.0.2.{host}/tcp/{port}") for port in range(1, 20)] for host in (1, 2)
    )
    book.learn(ADA, known)
    book.learn_caller(ADA, called)
    assert book.addresses(ADA) == [*known[: ADDRESSES_PER_PEER_MAX - 3], *called[:3]]
    book.learn_caller(ADA, [known[0]])
    assert book.addresses(ADA) == known[: ADDRESSES_PER_PEER_MAX - 1]


def test_what_cannot_be_dialled_is_not_in_the_book():
    book = AddressBook()
    odd = [Multiaddr(data) for data in BYTES]
    book.learn(ADA, odd)
    book.learn(ADA, odd, first=True)
    book.learn_caller(ADA, odd)
    assert book.addresses(ADA) == []
    assert book.due(0) == ([], [])


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
    "host, source, site",
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.0/24"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.0/24"),
        ("2001:db8::1", "2001:db8::/64", "2001:db8::/48"),
        ("2001:db8::ffff:1", "2001:db8::/64", "2001:db8::/48"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64", "2001:db8::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        ("unknown", "unknown", "unknown"),
    ],
)
def test_a_household_is_one_source_and_what_is_routed_one_site(host, source, site):
    assert (source_of(host), site_of(host)) == (source, site)


def test_a_peer_that_has_no_place_for_us_is_left_alone_ever_longer():
    book = AddressBook()
    book.learn_bootstrap(ADA, HOME)
    waits_ms = []
    for _ in range(12):  # A full bootstrap peer: it answers, and closes.
        book.dialled(ADA, 0, reached=True)
        book.disconnected(ADA, 0, lasted=False)
        waits_ms.append(book._entries[ADA].not_before_ms)
    assert BACK_OFF_MIN_MS <= waits_ms[0] <= 2 * BACK_OFF_MIN_MS
    assert waits_ms[-1] >= BACK_OFF_MAX_MS // 2
    book.disconnected(ADA, 0, lasted=True)
    assert book.due(0) == ([ADA], [])
    book.disconnected(PeerId("stranger"), 0, lasted=False)
