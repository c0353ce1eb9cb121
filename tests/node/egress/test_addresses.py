"""Which addresses are public.

Spec: specs/egress.md#addresses.
"""

import socket
from ipaddress import ip_address, ip_network

import pytest

from node.egress.addresses import Resolver, is_open

REFUSED = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1",
    "192.0.0.8", "192.0.2.1", "192.168.1.1", "198.18.0.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1",
    "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::10.0.0.1", "64:ff9b:1::1",
    "2001:db8::1", "2002:a00:1::", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
    "2001:0:0:1::",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_public_is_refused(text: str) -> None:
    assert not is_open(ip_address(text), ())
    assert is_open(ip_address(text), [ip_network("0.0.0.0/0"), ip_network("::/0")])


@pytest.mark.parametrize(
    "text", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::8.8.8.8"]
)
def test_the_public_network_is_open(text: str) -> None:
    assert is_open(ip_address(text), ())


def test_an_exception_for_a_mapped_address_is_that_of_the_inner_one() -> None:
    assert is_open(ip_address("::ffff:10.1.2.3"), [ip_network("10.1.2.0/24")])
    assert not is_open(ip_address("::ffff:10.1.3.3"), [ip_network("10.1.2.0/24")])


def test_the_addresses_of_this_machine_are_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says so of a loopback address; here it has to pass for a public one."""
    monkeypatch.setattr("ipaddress.IPv4Address.is_global", True)
    assert not is_open(ip_address("127.0.0.1"), ())


async def test_a_name_is_looked_up_as_this_machine_does() -> None:
    found = await Resolver().find("localhost", 80)
    assert ip_address("127.0.0.1") in found or ip_address("::1") in found
    with pytest.raises(socket.gaierror):
        await Resolver().find("name.invalid", 80)
