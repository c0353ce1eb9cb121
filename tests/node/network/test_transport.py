"""A port is ours alone, and no socket stays open.

Spec: specs/network.md.
"""

import pytest
import trio
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from node.network.traffic import Traffic
from node.network.transport import ExclusiveTCP, endpoint_of

ANY = Multiaddr("/ip4/127.0.0.1/tcp/0")


async def nothing(stream):
    await trio.sleep_forever()


async def listen_twice(transport):
    """Listen on one port twice; return whether that worked."""
    one, two = transport.create_listener(nothing), transport.create_listener(nothing)
    try:
        await one.listen(ANY)
        await two.listen(one.get_addrs()[0])
    except (OSError, OpenConnectionError):
        return False
    else:
        return True
    finally:
        await one.close()
        await two.close()


async def test_stock_shares_a_port():
    assert await listen_twice(TCP())


async def test_ours_does_not():
    assert not await listen_twice(ExclusiveTCP(Traffic()))


async def test_a_listener_that_is_closing_has_no_address() -> None:
    """Dials go on while a node stops, and compare addresses with its own."""
    listener = ExclusiveTCP(Traffic()).create_listener(nothing)
    await listener.listen(ANY)
    assert len(listener.get_addrs()) == 1
    listener.listeners[0].socket.close()
    assert listener.get_addrs() == ()
    await listener.close()


async def test_abort_closes_both_ends():
    transport = ExclusiveTCP(Traffic())
    listener = transport.create_listener(nothing)
    await listener.listen(ANY)
    dialled = await transport.dial(listener.get_addrs()[0])
    transport.abort()
    assert await dialled.read(1) == b""
    await listener.close()


async def test_a_closed_port_is_an_error():
    with pytest.raises(OpenConnectionError):
        await ExclusiveTCP(Traffic()).dial(Multiaddr("/ip4/127.0.0.1/tcp/1"))


def test_endpoints():
    assert endpoint_of(Multiaddr("/ip6/::1/tcp/7")) == ("::1", 7)
    with pytest.raises(ValueError, match="not a TCP address"):
        endpoint_of(Multiaddr("/ip4/127.0.0.1/udp/7"))


async def test_the_kernel_is_asked_once_for_what_has_arrived(monkeypatch):
    """Noise asks for the two bytes of a length, then for the frame."""
    traffic = Traffic()
    transport, accepted, asked = ExclusiveTCP(traffic), trio.open_memory_channel(1), []
    receive_some = trio.SocketStream.receive_some

    async def noted(stream, size=None):
        asked.append(size)
        return await receive_some(stream, size)

    async def accept(stream):
        await accepted[0].send(stream)
        await trio.sleep_forever()

    monkeypatch.setattr(trio.SocketStream, "receive_some", noted)
    listener = transport.create_listener(accept)
    await listener.listen(ANY)
    dialled = await transport.dial(listener.get_addrs()[0])
    stream = await accepted[1].receive()
    await dialled.write(b"\0\3abc\0\1d")
    assert [await stream.read(size) for size in (2, 3, 2, 1, 0)] == [
        b"\0\3", b"abc", b"\0\1", b"d", b"",
    ]  # fmt: skip
    assert len(asked) == 1
    await stream.write(b"thanks")
    assert await dialled.read(6) == b"thanks"
    assert traffic == Traffic(bytes_sent=14, bytes_received=14), "of both ends"
    transport.abort()
    assert await stream.read(1) == b""
    await listener.close()
