"""Which addresses a job may reach: those of the public network, and the owner's exceptions.

Spec: specs/egress.md#addresses.
"""

import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

import trio

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]
GLOBAL_UNICAST: Final = ip_network("2000::/3")
NAT64: Final = ip_network("64:ff9b::/96")
SPECIAL: Final = tuple(
    ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "3fff::/20")
)
"""Networks for special purposes, of which versions of Python think differently."""
LOOKUPS: Final = 8
"""Names that are looked up at a time for all jobs; each takes a thread."""


class Resolver:
    """Looks names up as this machine does."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(LOOKUPS)

    async def find(self, name: str, port: int) -> list[Address]:
        """Return the addresses of a name, each once; OSError if there are none."""
        found = await trio.to_thread.run_sync(
            lambda: socket.getaddrinfo(name, port, type=socket.SOCK_STREAM),
            limiter=self._limiter,
            abandon_on_cancel=True,
        )
        texts = dict.fromkeys(str(place[0]).partition("%")[0] for *_, place in found)
        return [ip_address(text) for text in texts]


def address_of(text: str) -> Address | None:
    """Return the address that a text is, None if it is a name."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def is_open(address: Address, exceptions: Networks) -> bool:
    """Return whether a job may reach an address."""
    if any(address in network for network in exceptions):
        return True
    inner = _inner(address)
    if inner is not None:
        return is_open(inner, exceptions)
    is_unicast = address.version == 4 or address in GLOBAL_UNICAST
    is_special = address.is_multicast or any(address in network for network in SPECIAL)
    return is_unicast and address.is_global and not is_special and not _is_own(address)


def _inner(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to, None if it is one of its own."""
    if isinstance(address, IPv4Address):
        return None
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _is_own(address: Address) -> bool:
    """Return whether it is this machine's: a packet to it would have it as its source."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(address), 9))  # No packet is sent.
        return ip_address(probe.getsockname()[0]) == address
    return False
