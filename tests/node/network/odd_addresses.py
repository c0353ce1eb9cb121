"""Addresses that are valid multiaddresses, or nearly so, and that no node of ours can dial.

Without the peer id that may follow. The fuzzer imports this, too: it needs nothing of ours.

Spec: specs/network.md.
"""

from libp2p.identity.identify import identify
from multiaddr import Multiaddr

ENDPOINT = "/ip4/1.2.3.4/tcp/1"
STRANGER = "12D3KooWEhvmcGyPE3dd2QHaFRqFwNsFSPFQcPdU8TTpcEBCE1W1"

VALID = (
    f"{ENDPOINT}/unix/p2p/x",  # Cut at the first "/p2p/" it would be no address any more.
    f"{ENDPOINT}/unix/p2p/{STRANGER}",
    f"{ENDPOINT}/ws",
    f"{ENDPOINT}/tls/ws",
    f"{ENDPOINT}/p2p/{STRANGER}/p2p/{STRANGER}",
    f"{ENDPOINT}/p2p/{STRANGER}/p2p-circuit",
    f"{ENDPOINT}{ENDPOINT}",
    f"{ENDPOINT}/http-path/%2Fp2p%2Fx",
    "/ip4/1.2.3.4/udp/1/quic-v1",
    "/ip4/1.2.3.4",
    "/tcp/1",
    "/unix/ip4/1.2.3.4/tcp/1",
    "/memory/1",
    f"/p2p/{STRANGER}",
)
INVALID = (
    "/ip4/1.2.3.4/tcp/65536",
    f"/ip4/1.2.3.4/tcp/{'9' * 5000}",
    "/ip4/1.2.3.4/tcp/-1",
    "/ip6/fe80::1%eth0/tcp/1",
    "/dns4//tcp/1",
    "/dns4/a b/tcp/1",
    "/dns4/a%2Fp2p%2Fx/tcp/1",
    f"/dns4/{'a' * 300}/tcp/1",
    "/dns4/\ud800/tcp/1",
    "/ip4/\0/tcp/1",
)
TRUE_WORDS = identify._mk_identify_protobuf
TEXTS = (*VALID, *INVALID)
BYTES = (
    *(Multiaddr(text).to_bytes() for text in VALID),
    b"",
    b"\xff",  # Reading it raises a TypeError.
    b"\x04\x01\x02",
    b"\x36\x07a/p2p/b\x06\x00\x01",  # A DNS name with slashes.
    b"\x36\x02\xff\xfe\x06\x00\x01",
)


def tell(host, set_attribute) -> None:
    """Make a host tell odd addresses: the valid ones signed, too, and all of them by identify.

    `set_attribute` is setattr, or one that takes it back: identify is all hosts' of this process.
    """
    true_addresses = host.get_addrs

    def spoilt_words(*arguments):
        message = TRUE_WORDS(*arguments)
        message.listen_addrs.extend(BYTES)
        message.ClearField("signedPeerRecord")  # It would take their place.
        return message

    # Identify cuts off the last peer id, and what follows: then one could dial the rest.
    odd = [Multiaddr(text) for text in VALID if not text.startswith(f"{ENDPOINT}/p2p/")]
    set_attribute(host, "get_addrs", lambda: [*true_addresses(), *odd])
    set_attribute(identify, "_mk_identify_protobuf", spoilt_words)
