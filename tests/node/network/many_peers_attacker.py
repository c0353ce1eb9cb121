"""Attacks by many identities at many addresses of loopback, none of them the neighbour's.

Usage: many_peers_attacker.py <attack> <multiaddr of the target>; it says what attacker.py says, and
keeps its connections until it is killed.

Spec: specs/network.md#slots.
"""

import logging
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from libp2p.stream_muxer.yamux import yamux

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.node.network.attacker import MESSAGE, say
from tests.node.network.many_peers import ManyPeers, open_many_peers, sources

AT_ONCE = 8
ATTACK_S = 8  # An attack that the target makes wait ends all the same.
REQUEST = (100_000).to_bytes(4) + bytes(100_000)


async def at_once(action: Callable[..., Awaitable[object]], places: list[str], *more: str) -> None:
    """Do something from each place, some at the same time."""
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def limited(place: str) -> None:
        async with limiter:
            await action(place, *more)

    async with trio.open_nursery() as nursery:
        for place in places:
            nursery.start_soon(limited, place)


async def many_addresses(peers: ManyPeers) -> None:
    """Hold all connections there are, from two hundred addresses, again and again."""
    await at_once(peers.connect, sources(200) * 3)


async def many_handshakes(peers: ManyPeers) -> None:
    """Hold connections that are never authenticated, from many addresses."""
    for source in sources(300, per_site=16) * 2:
        peers.connect_silently(source)
    await trio.sleep(1)


async def no_windows(peers: ManyPeers) -> None:
    """Ask for large answers on many streams, and read none of them."""

    async def ask(stream: yamux.YamuxStream) -> None:
        for _ in range(8):
            await stream.write(REQUEST)

    async with trio.open_nursery() as nursery:
        for source in sources(64):
            stream = await peers.hold(source, MESSAGE)
            if stream is not None:
                nursery.start_soon(peers.ignoring_failures, ask, stream)


async def beyond_windows(peers: ManyPeers) -> None:
    """Send on, whatever the windows say, on many streams of a few connections."""
    head = (yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA)

    async def flood(stream: yamux.YamuxStream) -> None:
        for number in range(400):
            ours = stream.stream_id + 2 * (number % 100)
            flags = yamux.FLAG_SYN if stream.stream_id < ours and number < 100 else 0
            frame = struct.pack(*head, flags, ours, 60_000) + bytes(60_000)
            await stream.conn.secured_conn.write(frame)

    async with trio.open_nursery() as nursery:
        for source in sources(4):
            stream = await peers.hold(source, MESSAGE)
            if stream is not None:
                nursery.start_soon(peers.ignoring_failures, flood, stream)


async def main(attack: str, address: str) -> None:
    logging.disable(logging.CRITICAL)
    async with open_many_peers(address) as peers:
        say("ready")
        with trio.move_on_after(ATTACK_S):
            await globals()[attack](peers)
        say(f"done, {peers.connected} connections")
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
