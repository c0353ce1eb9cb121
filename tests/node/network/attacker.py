"""A hostile peer in a process of its own, with stock libp2p or bare sockets.

Usage: attacker.py <attack> <multiaddr of the target>. Says "ready" when connected (attacks that
need a connection), "done" when the attack is over, and stays until it is killed.

Spec: specs/network.md.
"""

import logging
import os
import socket
import struct
import sys

import trio

SOCKETS: list[socket.socket] = []
MESSAGE = "/mutirao/message/1"
GOSSIP = "/meshsub/1.1.0"
DHT = "/mutirao/mutirao/kad/1.0.0"


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def endpoint(address: str) -> tuple[str, int]:
    parts = address.split("/")
    return parts[2], int(parts[4])


def garbage_on_tcp(address: str) -> None:
    for payload in (os.urandom(2048), b"GET / HTTP/1.1\r\n\r\n", b"\x13/multistream/1.0.0\n", b""):
        for _ in range(20):
            one = socket.create_connection(endpoint(address))
            one.sendall(payload)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()


def half_open(address: str) -> None:
    SOCKETS.extend(socket.create_connection(endpoint(address)) for _ in range(300))


async def with_host(address: str, attack) -> None:
    from libp2p import new_host
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from multiaddr import Multiaddr

    logging.disable(logging.CRITICAL)
    host = new_host()
    host.set_stream_handler(GOSSIP, deaf)
    info = info_from_p2p_addr(Multiaddr(address))
    async with host.run(listen_addrs=[]):
        await host.connect(info)
        say("ready")
        await attack(host, info.peer_id)
        say("done")
        await trio.sleep_forever()


async def deaf(_stream):
    await trio.sleep_forever()


async def send(host, peer, protocol, data):
    stream = await host.new_stream(peer, [protocol])
    await stream.write(data)
    return stream


async def gossip_garbage(host, peer):
    for data in (b"\x32" + os.urandom(50), b"\xff" * 12, b"\x05hello", os.urandom(4000)):
        await send(host, peer, GOSSIP, data)


async def gossip_bad_key(host, peer):
    from libp2p.pubsub.pb import rpc_pb2
    from varint import encode

    topic = "/mutirao/mutirao/calls"
    message = rpc_pb2.Message(data=b"x", topicIDs=[topic], from_id=b"\x12\x20" + bytes(32))
    message.seqno, message.key, message.signature = bytes(8), b"no key", b"no signature"
    data = rpc_pb2.RPC(publish=[message]).SerializeToString()
    for _ in range(20):
        await send(host, peer, GOSSIP, encode(len(data)) + data)


async def message_garbage(host, peer):
    for _ in range(3):
        await send(host, peer, MESSAGE, os.urandom(200))


async def message_huge(host, peer):
    for _ in range(3):
        await send(host, peer, MESSAGE, (100 * 2**20).to_bytes(4) + bytes(100_000))


async def idle_streams(host, peer):
    for _ in range(60):
        await host.new_stream(peer, [DHT])


async def stalled_reader(host, peer):
    """Ask for large answers and read none of them."""
    from libp2p.stream_muxer.yamux import yamux

    stream = await host.new_stream(peer, [MESSAGE])
    muxed = stream.muxed_conn

    async def sit(*_args):
        await trio.sleep_forever()

    yamux.YamuxStream._auto_tune_and_send_window_update = sit
    with trio.move_on_after(2):
        for _ in range(100):
            await stream.write((100_000).to_bytes(4) + bytes(100_000))
    assert not muxed.is_closed


async def ignores_flow_control(host, peer):
    """Send on, whatever the window says."""
    from libp2p.stream_muxer.yamux import yamux

    stream = await host.new_stream(peer, ["/mutirao/sleep/1"])
    muxed = stream.muxed_conn
    frame = bytes(60_000)
    head = struct.pack(
        yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, stream.muxed_stream.stream_id, len(frame)
    )
    for _ in range(1000):  # 60 MB.
        if muxed.is_closed or muxed.event_shutting_down.is_set():
            break
        with trio.move_on_after(1):
            await muxed.secured_conn.write(head + frame)


async def many_streams(host, peer):
    """Open streams and say nothing on them."""
    from libp2p.stream_muxer.yamux import yamux

    muxed = host.get_network().get_connections(peer)[0].muxed_conn
    for stream_id in range(101, 4101, 2):
        frame = struct.pack(
            yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_SYN, stream_id, 0
        )
        await muxed.secured_conn.write(frame)


async def nothing(host, peer):
    """Be connected."""


def main(attack: str, address: str, attacks=None) -> None:
    function = (attacks or globals())[attack]
    if attack in ("garbage_on_tcp", "half_open"):
        function(address)
        say("done")
        sys.stdin.read()
    else:
        try:
            trio.run(with_host, address, function)
        except BaseException as error:
            say(f"over: {error!r}")
            raise


if __name__ == "__main__":
    main(*sys.argv[1:])
