"""A peer in a process of its own that speaks well at first, and then sends spoilt bytes.

Usage: fuzzer.py dial <layer> <seed> <count> <multiaddr of the target>
       fuzzer.py listen <layer> <seed>

From some write on, what it says at the layer is mutated, and all else is as it should be; with the
layer "all", each connection has another one. A dialling one says after so many connections how
many writes it has spoilt; a listening one says its address. Of itself and of others it tells odd
addresses besides.

Spec: specs/network.md.
"""

import contextlib
import logging
import random
import sys

import odd_addresses  # Beside this script.
import trio
import trio.lowlevel
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.kad_dht.pb.kademlia_pb2 import Message, Record
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.pb import rpc_pb2
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream
from multiaddr import Multiaddr
from varint import encode

MESSAGE = "/mutirao/message/1"
GOSSIP = "/meshsub/1.1.0"
DHT = "/mutirao/mutirao/kad/1.0.0"
BYTES = "/mutirao/bytes/1"
TOPIC = "/mutirao/mutirao/calls"
ANY = Multiaddr("/ip4/127.0.0.1/tcp/0")
PATIENCE_S = 0.4  # For answers to one spoilt connection: silence is an answer, too.
LAYERS = {  # Whose writes are spoilt, and how many of them may go before.
    "wire": (RawConnection, "write", 6),  # Multistream, Noise's handshake, Noise's records.
    "secured": (SecureSession, "write", 6),  # Multistream for Yamux, and Yamux.
    "frames": (Yamux, "_write_frame", 20),  # Yamux alone, its heads above all.
    "streams": (YamuxStream, "write", 4),  # Multistream for the protocols, and the protocols.
}


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


class Spoiler:
    """Mutates what one connection, or one stream, says."""

    spoilt_count = 0  # Of all spoilers together.

    def __init__(self, dice: random.Random, layer: str) -> None:
        self.dice = dice
        self.layer = layer
        self.spared = dice.randrange(LAYERS[layer][2])

    def spoilt(self, data: bytes) -> bytes:
        self.spared -= 1
        if self.spared >= 0 or not data:
            return data
        Spoiler.spoilt_count += 1
        if self.layer == "frames":
            return self.head_changed(data)
        ways = [self.flipped, self.cut, self.longer, self.other, self.twice, self.extreme]
        return self.dice.choice(ways)(data)

    def flipped(self, data: bytes) -> bytes:
        spoilt = bytearray(data)
        for _ in range(self.dice.choice((1, 1, 2, 8))):
            spoilt[self.dice.randrange(len(spoilt))] ^= 1 << self.dice.randrange(8)
        return bytes(spoilt)

    def cut(self, data: bytes) -> bytes:
        return data[: self.dice.randrange(len(data))]

    def longer(self, data: bytes) -> bytes:
        at = self.dice.randrange(len(data) + 1)
        return data[:at] + self.dice.randbytes(self.dice.choice((1, 4, 300))) + data[at:]

    def other(self, data: bytes) -> bytes:
        return self.dice.randbytes(self.dice.choice((1, len(data), 2000)))

    def twice(self, data: bytes) -> bytes:
        return data + data

    def extreme(self, data: bytes) -> bytes:
        at, size = self.dice.randrange(len(data)), self.dice.choice((1, 2, 4, 9))
        return data[:at] + self.dice.choice((b"\xff", b"\0", b"\x80", b"\x7f")) * size + data[at:]

    def head_changed(self, data: bytes) -> bytes:
        head = bytearray(data[:12])
        at = self.dice.choice((0, 1, 1, 2, 3, 3, 3, 4, 7, 7, 8, 9, 10, 11))
        head[at] = self.dice.choice((0, 1, 2, 3, 4, 8, 15, 127, 128, 255))
        return bytes(head) + data[12:]


class Spoiling:
    """Puts itself between libp2p and what it writes, at all layers; at one of them it spoils."""

    def __init__(self, layer: str, seed: int) -> None:
        self.layers = [*LAYERS, "streams", "streams"] if layer == "all" else [layer]
        self.seed = seed
        self.connections = 0
        self.writers = 0
        for name in LAYERS:
            self.put_between(name)

    def put_between(self, layer: str) -> None:
        kind, name, _ = LAYERS[layer]
        true_write = getattr(kind, name)

        async def write(writer, data):
            if "spoiler" not in vars(writer):
                writer.spoiler = self.spoiler_at(layer)
            spoiler = writer.spoiler
            await true_write(writer, data if spoiler is None else spoiler.spoilt(data))

        setattr(kind, name, write)

    def spoiler_at(self, layer: str) -> Spoiler | None:
        """Return what spoils a new writer; a connection begins with a writer on the wire."""
        self.connections += layer == "wire"
        self.writers = 0 if layer == "wire" else self.writers + 1
        chosen = self.layers[self.connections % len(self.layers)]
        dice = random.Random(f"{self.seed} {self.connections} {self.writers}")
        return Spoiler(dice, layer) if layer == chosen else None


def framed(message) -> bytes:
    data = message.SerializeToString()
    return encode(len(data)) + data


def gossip_words(peer: ID) -> bytes:
    rpc = rpc_pb2.RPC()
    rpc.subscriptions.add(subscribe=True, topicid=TOPIC)
    rpc.publish.add(data=b"x", topicIDs=[TOPIC], from_id=peer.to_bytes(), seqno=bytes(8))
    rpc.control.graft.add(topicID=TOPIC)
    rpc.control.prune.add(topicID=TOPIC, backoff=10)
    rpc.control.ihave.add(topicID=TOPIC, messageIDs=[b"one"])
    rpc.control.iwant.add(messageIDs=[b"one"])
    return framed(rpc)


def dht_words(peer: ID, kind: int) -> bytes:
    key = f"/mutirao/{peer}".encode()
    message = Message(type=kind, key=peer.to_bytes() if kind == Message.FIND_NODE else key)
    message.closerPeers.add(id=peer.to_bytes(), addrs=[*odd_addresses.BYTES, ANY.to_bytes()])
    message.record.CopyFrom(Record(key=key, value=f"{peer} 1".encode()))
    return framed(message)


async def converse(host, peer) -> None:
    """Say something on each protocol, whatever comes back."""
    own = host.get_id()
    words = [
        (MESSAGE, (3).to_bytes(4) + b"abc"),
        (BYTES, b"hello"),
        (GOSSIP, gossip_words(own)),
        *((DHT, dht_words(own, kind)) for kind in Message.MessageType.values()),
        ("/ipfs/id/1.0.0", b""),
        ("/ipfs/ping/1.0.0", bytes(32)),
    ]
    async with trio.open_nursery() as nursery:
        for protocol, data in words:
            nursery.start_soon(say_on, host, peer, protocol, data)


async def say_on(host, peer, protocol, data) -> None:
    with contextlib.suppress(Exception):  # What a spoilt conversation ends with is no matter.
        stream = await host.new_stream(peer, [protocol])
        for _ in range(3):
            await stream.write(data)
            await trio.lowlevel.checkpoint()
        await stream.read(100)


async def answer(stream) -> None:
    """Answer whatever is said on a stream with something of its protocol."""
    protocol, own = stream.get_protocol(), stream.muxed_conn.peer_id
    with contextlib.suppress(Exception):  # As above.
        while data := await stream.read(2000):
            if protocol == GOSSIP:
                await stream.write(gossip_words(own))
            elif protocol == DHT:
                await stream.write(dht_words(own, data[2] % 6 if len(data) > 2 else 0))
            else:
                await stream.write(data)


def made_host(seed: int):
    host = new_host(key_pair=create_new_key_pair(random.Random(seed).randbytes(32)))
    for protocol in (MESSAGE, GOSSIP, DHT, BYTES):
        host.set_stream_handler(protocol, answer)
    odd_addresses.tell(host, setattr)
    return host


async def dial_once(seed: int, info) -> None:
    host = made_host(seed)
    async with host.run(listen_addrs=[]):
        with trio.move_on_after(PATIENCE_S), contextlib.suppress(Exception):
            await host.connect(info)
            await converse(host, info.peer_id)
        await host.close()


async def dial(seed: int, count: int, address: str) -> None:
    info = info_from_p2p_addr(Multiaddr(address))
    for number in range(seed, seed + count):
        with contextlib.suppress(Exception):  # Stock libp2p does not survive itself.
            await dial_once(number, info)
    say(f"done {Spoiler.spoilt_count}")
    await trio.sleep_forever()


async def listen(seed: int) -> None:
    port = ANY
    while True:
        host = made_host(seed)
        with contextlib.suppress(Exception):  # As above.
            async with host.run(listen_addrs=[port]):
                address = str(host.get_addrs()[0])
                port = Multiaddr(address.partition("/p2p/")[0])
                say(address)
                await trio.sleep_forever()


def main(mode: str, layer: str, seed: str, count: str = "", address: str = "") -> None:
    logging.disable(logging.CRITICAL)
    Spoiling(layer, int(seed))
    if mode == "dial":
        trio.run(dial, int(seed), int(count), address)
    else:
        trio.run(listen, int(seed))


if __name__ == "__main__":
    main(*sys.argv[1:])
