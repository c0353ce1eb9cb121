"""Attacks by gossip, from another address than the neighbour's.

Usage: gossip_attacker.py <attack> <multiaddr of the target>; it says what attacker.py says.

Spec: specs/gossip.md#limits.
"""

import functools
import os
import sys
import time
from pathlib import Path

import attacker  # Beside this script.
import trio
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import PUBSUB_SIGNING_PREFIX
from libp2p.utils.varint import encode_varint_prefixed

sys.path.insert(0, str(Path(__file__).parents[3]))

from protocol.values.limits import RECORD_TTL_MS
from protocol.wire.envelope import KeySigner
from protocol.wire.messages import CapabilityRecord

NETWORK = "mutirao"
TOPIC = f"/mutirao/{NETWORK}/calls"
RECORDS_TOPIC = f"/mutirao/{NETWORK}/record"
ATTACK_S = 3  # An attack that the target makes wait ends all the same.


async def flood(host, peer, rpcs, pause_s=0):
    """Send RPCs for as long as the target takes them, on a new stream when one is broken off."""
    stream = None
    with trio.move_on_after(ATTACK_S):
        for rpc in rpcs:
            data = encode_varint_prefixed(rpc.SerializeToString())
            try:
                stream = stream or await host.new_stream(peer, [attacker.GOSSIP])
                await stream.write(data)
                await trio.sleep(pause_s)
            except Exception:  # noqa: BLE001 - libp2p has many, and they all mean the same.
                stream = None
                if not host.get_network().get_connections(peer):
                    return  # We are refused.


async def many_messages(host, peer):
    """RPCs of thousands of empty messages."""
    rpc = rpc_pb2.RPC(publish=[rpc_pb2.Message(topicIDs=[TOPIC])] * 9000)
    await flood(host, peer, [rpc] * 20)


async def many_subscriptions(host, peer):
    """RPCs of thousands of subscriptions, and as many ends of them."""
    for hears in (True, False) * 10:
        wanted = [
            rpc_pb2.RPC.SubOpts(subscribe=hears, topicid=f"{TOPIC}{n}") for n in range(13_000)
        ]
        wanted = [wanted[at : at + 5000] for at in range(0, len(wanted), 5000)]
        await flood(host, peer, [rpc_pb2.RPC(subscriptions=some) for some in wanted])


async def many_topics(host, peer):
    """25 MB of PRUNEs with invented topics, in RPCs as large as they may be."""

    def rpc():
        made = rpc_pb2.RPC()
        for _ in range(1000):
            made.control.prune.add(topicID=os.urandom(12).hex(), backoff=2**40)
        return made

    await flood(host, peer, (rpc() for _ in range(700)))


async def many_small_rpcs(host, peer):
    """RPCs of one message each, as fast as they go."""
    rpc = rpc_pb2.RPC(publish=[rpc_pb2.Message(topicIDs=[TOPIC])])
    await flood(host, peer, [rpc] * 30_000)


def signed(host, numbers, topic=TOPIC, data=bytes(2000)):
    """Messages that are as they should be, but for their number."""
    own, key = host.get_id().to_bytes(), host.get_private_key()
    for number in numbers:
        made = rpc_pb2.Message(data=data, topicIDs=[topic], from_id=own)
        made.seqno = number.to_bytes(8)
        words = PUBSUB_SIGNING_PREFIX.encode() + made.SerializeToString()
        made.key, made.signature = host.get_public_key().serialize(), key.sign(words)
        yield made


async def many_wishes(host, peer):
    """Publish a few messages, and ask for them again and again without reading a byte."""
    messages = list(signed(host, range(1, 9)))
    wish = rpc_pb2.RPC()
    wish.control.iwant.add(messageIDs=[one.from_id + one.seqno for one in messages] * 125)
    await flood(host, peer, [rpc_pb2.RPC(publish=messages), *[wish] * 500], pause_s=0.1)


async def many_returns(host, peer):
    """Good messages, as many as are taken; then break the stream off by a length, and again."""
    with trio.move_on_after(ATTACK_S):
        for first in range(0, 10_000, 100):
            messages = list(signed(host, range(first, first + 100)))
            await flood(host, peer, [rpc_pb2.RPC(publish=messages)])
            await attacker.send(host, peer, attacker.GOSSIP, b"\xff\xff\xff\x7f")


async def many_names(host, peer):
    """IHAVEs with as many ids as an RPC may hold, all invented."""

    def rpc():
        made = rpc_pb2.RPC()
        made.control.ihave.add(topicID=TOPIC, messageIDs=[os.urandom(46) for _ in range(1000)])
        return made

    await flood(host, peer, (rpc() for _ in range(500)))


async def many_records(host, peer):
    """Capability records of nodes that do not exist, each with a key of its own."""
    now_ms = time.time_ns() // 10**6
    rpcs = []
    for number in range(110):
        record = CapabilityRecord(1, now_ms, RECORD_TTL_MS, (), True, cpus=64)
        envelope = KeySigner(os.urandom(32), NETWORK).sign(record).envelope
        rpcs.append(rpc_pb2.RPC(publish=list(signed(host, [number], RECORDS_TOPIC, envelope))))
    await flood(host, peer, rpcs)


async def many_streams(host, peer):
    """Streams of gossip that begin a long RPC and do not go on."""
    with trio.move_on_after(ATTACK_S):
        for _ in range(200):
            stream = await host.new_stream(peer, [attacker.GOSSIP])
            await stream.write(b"\xff\xff\x0f" + bytes(200_000))


if __name__ == "__main__":
    trio.open_tcp_stream = functools.partial(trio.open_tcp_stream, local_address="127.0.0.2")
    attacker.main(*sys.argv[1:], attacks=globals())
