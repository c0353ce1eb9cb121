"""Addresses: parses those of the configuration, and remembers those of peers.

Spec: specs/network.md.
"""

import enum
import functools
import ipaddress
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from node.network.libp2p_errors import contained
from protocol.values.bounded import keep_newest
from protocol.values.errors import InvalidRequest
from protocol.values.ids import PeerId, public_key_of

ADDRESSES_PER_PEER_MAX: Final = 8  # Stored and dialled: a peer may claim any number.
PEERS_MAX: Final = 1024
CALLERS_MAX: Final = 1024  # The number of calls that a node answers at a time.
ADDRESSES_PER_CALLER_MAX: Final = 3
EXAMINED_MAX: Final = 32  # Of the addresses in one message: parsing takes time.
ENDPOINTS_KEPT: Final = 8192
BACK_OFF_MIN_MS: Final = 1_000
BACK_OFF_MAX_MS: Final = 300_000
BOOTSTRAP_BACK_OFF_MAX_MS: Final = 3_000  # They return; the whole network depends on them.
WILDCARDS: Final = ("/ip4/0.0.0.0/", "/ip6/::/")
HOSTS: Final = ("ip4", "ip6", "dns", "dns4", "dns6")


class Kind(enum.Enum):
    """From where an address can be reached."""

    PUBLIC = enum.auto()
    PRIVATE = enum.auto()  # From the same network, or through the same provider.
    LINK_LOCAL = enum.auto()
    LOOPBACK = enum.auto()
    NAME = enum.auto()  # A DNS name: unknown before the lookup.
    NOWHERE = enum.auto()  # Wildcards, multicast and reserved ranges.


@dataclass(slots=True)
class PeerEntry:
    """What we know of one peer: its addresses, best first, and the results of dialling.

    `bootstrap` are the configured ones, which are never replaced.
    `failures` counts consecutive failed dials, `refusals` connections that closed at once.
    """

    addresses: list[Multiaddr] = field(default_factory=list)
    bootstrap: list[Multiaddr] = field(default_factory=list)
    failures: int = 0
    refusals: int = 0
    not_before_ms: int = 0


class AddressBook:
    """The addresses of the peers that we may dial."""

    def __init__(self) -> None:
        self._entries: dict[PeerId, PeerEntry] = {}
        self._callers: dict[PeerId, list[Multiaddr]] = {}  # The latest caller is at the end.

    def learn(self, peer: PeerId, addresses: Iterable[Multiaddr], *, first: bool = False) -> None:
        """Store the usable ones of the addresses that were reported for a peer.

        `first` puts them before the known ones.
        """
        new = dialable(addresses)
        if new:
            entry = self._entries.setdefault(peer, PeerEntry())
            both = [*new, *entry.addresses] if first else [*entry.addresses, *new]
            entry.addresses = list(dict.fromkeys(both))[:ADDRESSES_PER_PEER_MAX]
            self._forget()

    def learn_caller(self, peer: PeerId, addresses: Iterable[Multiaddr]) -> None:
        """Store where a caller wants its answer. Peering does not dial these addresses.

        Callers cost nothing: new ones evict the oldest callers, and no other peers.
        """
        new = dialable(addresses)[:ADDRESSES_PER_CALLER_MAX]
        if new:
            self._callers.pop(peer, None)
            self._callers[peer] = new
        keep_newest(self._callers, CALLERS_MAX)

    def learn_bootstrap(self, peer: PeerId, address: Multiaddr) -> None:
        """Remember a bootstrap peer: it is never forgotten, and always tried again."""
        self._entries.setdefault(peer, PeerEntry()).bootstrap.append(address)
        self._forget()

    def addresses(self, peer: PeerId) -> list[Multiaddr]:
        """Return the addresses of a peer, best first; those from its calls are last."""
        entry = self._entries.get(peer, PeerEntry())
        called = self._callers.get(peer, [])
        known = [*entry.bootstrap, *entry.addresses][: ADDRESSES_PER_PEER_MAX - len(called)]
        return list(dict.fromkeys([*known, *called]))

    def bootstrap(self, peer: PeerId) -> list[Multiaddr]:
        """Return the addresses of a peer that are in our configuration."""
        return self._entries.get(peer, PeerEntry()).bootstrap

    def due(self, now_ms: int) -> tuple[list[PeerId], list[PeerId]]:
        """Return the bootstrap peers and the other peers that may be dialled now."""
        ready = [item for item in self._entries.items() if item[1].not_before_ms <= now_ms]
        bootstrap = [peer for peer, entry in ready if entry.bootstrap]
        others = [peer for peer, entry in ready if entry.addresses and not entry.bootstrap]
        return bootstrap, others

    def dialled(self, peer: PeerId, now_ms: int, *, reached: bool) -> None:
        """Record the result of a dial; after each failure the pause grows."""
        entry = self._entries.get(peer)
        if entry is None:
            return
        entry.failures = 0 if reached else entry.failures + 1
        longest_ms = BOOTSTRAP_BACK_OFF_MAX_MS if entry.bootstrap else BACK_OFF_MAX_MS
        entry.not_before_ms = 0 if reached else now_ms + _pause_ms(entry.failures, longest_ms)

    def disconnected(self, peer: PeerId, now_ms: int, *, lasted: bool) -> None:
        """Record the end of a connection; a peer that closes at once has no free slot for us."""
        entry = self._entries.get(peer)
        if entry is None:
            return
        entry.refusals = 0 if lasted else entry.refusals + 1
        entry.not_before_ms = 0 if lasted else now_ms + _pause_ms(entry.refusals, BACK_OFF_MAX_MS)

    def _forget(self) -> None:
        if len(self._entries) <= PEERS_MAX:
            return
        others = (item for item in self._entries.items() if not item[1].bootstrap)
        worst = max(others, key=lambda item: item[1].failures, default=None)
        if worst is not None:
            del self._entries[worst[0]]


def parse_address(text: str) -> Multiaddr:
    """Return a multiaddr of a host and a TCP port, and nothing else; InvalidRequest if not."""
    parts = text.split("/")  # Checked before the library does: we need few of its protocols.
    if len(parts) != 5 or parts[0] or parts[1] not in HOSTS or parts[3] != "tcp":
        raise InvalidRequest(_advice(text))
    try:
        return Multiaddr(text)
    except (MultiaddrError, ValueError) as error:
        raise InvalidRequest(_advice(text)) from error


def parse_peer_address(text: str) -> tuple[PeerId, Multiaddr]:
    """Return peer id and address of a multiaddr that ends in /p2p/…; InvalidRequest if not."""
    address, _, name = text.rpartition("/p2p/")
    if not address:
        raise InvalidRequest(f"{text!r} does not end in /p2p/<peer id>")
    try:
        public_key_of(PeerId(name))
    except ValueError as error:
        raise InvalidRequest(f"{text!r} does not end in a peer id: {error}") from error
    return PeerId(name), parse_address(address)


def parse_announced(text: str) -> Multiaddr:
    """Return the address in a multiaddr, which may end in /p2p/…; InvalidRequest if malformed."""
    return parse_peer_address(text)[1] if "/p2p/" in text else parse_address(text)


def dialable(addresses: Iterable[Multiaddr]) -> list[Multiaddr]:
    """Return the usable ones of the addresses that a peer reported, without peer ids.

    Only the first EXAMINED_MAX are examined: a peer may report as many as a message holds.
    """
    found: list[Multiaddr] = []
    for address in islice(addresses, EXAMINED_MAX):
        with contained("address that a peer told"):  # Its bytes are parsed only now.
            endpoint = _endpoint_of(address)
            if endpoint is not None:
                found.append(endpoint)
    return found


def kind_of(address: Multiaddr) -> Kind:
    """Return from where an address (a host and a TCP port) can be reached."""
    _, name, host, *_ = str(address).split("/")
    if not name.startswith("ip"):
        return Kind.NAME
    found = ipaddress.ip_address(host)
    if isinstance(found, ipaddress.IPv6Address):  # Some contain an IPv4 address.
        found = found.ipv4_mapped or found.sixtofour or found
    kinds = (
        (found.is_loopback, Kind.LOOPBACK),
        (found.is_unspecified or found.is_multicast, Kind.NOWHERE),
        (found.version == 4 and found.is_reserved, Kind.NOWHERE),  # IPv6 networks use this range.
        (found.is_link_local, Kind.LINK_LOCAL),
        (not found.is_global, Kind.PRIVATE),
    )
    return next((kind for is_such, kind in kinds if is_such), Kind.PUBLIC)


def source_of(host: str) -> str:
    """Return the source of an IP address: all of IPv4, the /64 network of IPv6."""
    return _network_of(host, 32, 64)


def site_of(host: str) -> str:
    """Return the site of an IP address: the /24 network of IPv4, the /48 network of IPv6."""
    return _network_of(host, 24, 48)


def reachable(addresses: Iterable[Multiaddr]) -> list[Multiaddr]:
    """Replace wildcard addresses by this machine's real ones."""
    found: list[Multiaddr] = []
    for address in addresses:
        wildcard = next((start for start in WILDCARDS if str(address).startswith(start)), None)
        if wildcard is None:
            found.append(address)
            continue
        host = _outward_host(wildcard)
        found.append(Multiaddr(str(address).replace(wildcard, host, 1)))
    return found


@functools.lru_cache(ENDPOINTS_KEPT)
def _endpoint_of(address: Multiaddr) -> Multiaddr | None:
    """Return host and TCP port of an address that contains only these and a peer id."""
    names = [protocol.name for protocol in address.protocols()]
    if names[2:] not in ([], ["p2p"]) or names[1:2] != ["tcp"] or names[0] not in HOSTS:
        return None
    host, port = address.value_for_protocol(names[0]), address.value_for_protocol("tcp")
    endpoint = Multiaddr(f"/{names[0]}/{host}/tcp/{port}")
    return None if kind_of(endpoint) is Kind.NOWHERE or port == "0" else endpoint


def _pause_ms(times: int, longest_ms: int) -> int:
    """Return the pause after so many failures, with jitter."""
    wait_ms = min(BACK_OFF_MIN_MS << min(times, 16), longest_ms)
    return wait_ms // 2 + random.randrange(wait_ms // 2)  # noqa: S311 - not for secrets.


def _network_of(host: str, bits_of_four: int, bits_of_six: int) -> str:
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((found, bits_of_six), strict=False))
        found = found.ipv4_mapped  # A listener on "::" gets IPv4 in this form.
    return str(ipaddress.IPv4Network((found, bits_of_four), strict=False)).removesuffix("/32")


def _outward_host(wildcard: str) -> str:
    """Return the address of this machine's outward interface, else the loopback's."""
    four = wildcard.startswith("/ip4")
    name, family = ("ip4", socket.AF_INET) if four else ("ip6", socket.AF_INET6)
    outside, host = ("192.0.2.1", "127.0.0.1") if four else ("2001:db8::1", "::1")
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((outside, 9))  # Sends nothing: it only asks the routing table.
            host = probe.getsockname()[0]
    except OSError:
        return f"/{name}/{host}/"  # No route: the loopback address.
    return f"/{name}/{host}/"


def _advice(text: str) -> str:
    return f"{text!r} is not an address; it should look like /ip4/192.0.2.1/tcp/4788"
