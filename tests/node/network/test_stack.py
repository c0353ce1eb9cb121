"""What libp2p is built of, and how it ends.

Spec: specs/network.md.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from multiaddr import Multiaddr

from node.network import stack
from protocol.values.errors import PeerUnreachable
from tests.node.network.fixtures import WAIT_S, connected_nodes, echo, open_node, tuned, until

ANY = Multiaddr("/ip4/127.0.0.1/tcp/0")
ROOT = Path(__file__).parents[3]
CRASH = """
import sys, trio
from libp2p import new_host
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

async def crash(stream):
    raise ValueError("in a handler")

async def main():
    one, two = new_host(), new_host()
    any_port = [Multiaddr("/ip4/127.0.0.1/tcp/0")]
    async with one.run(listen_addrs=any_port), two.run(listen_addrs=any_port):
        one.set_stream_handler("/x", crash)
        await two.connect(PeerInfo(one.get_id(), one.get_addrs()))
        await two.new_stream(one.get_id(), ["/x"])
        await trio.sleep_forever()
    print("alive")

trio.run(main)
"""
NODE = """
import signal, sys, trio
from tests.node.network.fixtures import open_node, until

async def run():
    async with open_node("a") as a, open_node("b", a.addresses()[0]) as b:
        await until(lambda: a.peers() and b.peers())
        print("ready", flush=True)
        await trio.sleep_forever()

async def main():
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await anext(signals)
            nursery.cancel_scope.cancel()
    print("over", flush=True)

def leaves(error):
    inner = getattr(error, "exceptions", None)
    return [type(error).__name__] if inner is None else [n for one in inner for n in leaves(one)]

try:
    # Elsewhere than at a checkpoint an interrupt may hit trio itself, which then dies of it.
    chosen = main if sys.argv[1] == "caught" else run
    trio.run(chosen, restrict_keyboard_interrupt_to_checkpoints=True)
except BaseException as error:
    print(*leaves(error), flush=True)
"""


@pytest.mark.slow
def test_stock_dies_of_an_exception_in_a_handler():
    done = subprocess.run(
        [sys.executable, "-c", CRASH], capture_output=True, timeout=60, check=False
    )
    assert done.returncode
    assert b"in a handler" in done.stderr
    assert b"alive" not in done.stdout


async def test_ours_resets_the_stream_and_lives():
    async def crash(stream):
        raise ValueError("in a handler")

    async with connected_nodes(2) as (a, b):
        a._stack.host.set_stream_handler("/x", crash)
        a.on_request(echo)
        stream = await b.open_stream(a.peer_id, "/x")
        with pytest.raises(PeerUnreachable):
            await stream.read_exactly(1)
        assert await b.request(a.peer_id, b"still here") == b"still here"


async def test_plaintext_is_for_stock_only():
    key_pair = create_new_key_pair()
    plain = {PLAINTEXT_PROTOCOL_ID: InsecureTransport(key_pair)}
    stock, liar = new_host(), new_host(key_pair=key_pair, sec_opt=plain)
    async with open_node("a") as a, stock.run(listen_addrs=[ANY]), liar.run(listen_addrs=[ANY]):
        await liar.connect(PeerInfo(stock.get_id(), stock.get_addrs()))
        address = Multiaddr(a.addresses()[0].partition("/p2p/")[0])
        with pytest.raises(SwarmException), trio.fail_after(WAIT_S):
            await liar.connect(PeerInfo(ID.from_base58(a.peer_id), [address]))
        assert not a.peers()
        await stock.close()
        await liar.close()


async def test_announced_addresses_are_told():
    announced = "/ip4/192.0.2.7/tcp/4788"
    async with open_node("a", announce=(announced,)) as a, open_node("b", a.addresses()[0]) as b:
        await until(b.peers)
        store = b._stack.host.peerstore
        peer = ID.from_base58(a.peer_id)
        await until(lambda: peer in store.peer_ids())
        await until(lambda: any(announced in str(address) for address in store.addrs(peer)))


async def test_a_close_that_hangs_is_cut_off(monkeypatch):
    hung = trio.Event()

    async def hang(swarm):
        hung.set()
        await trio.sleep_forever()

    monkeypatch.setattr(stack, "_close_connections", hang)
    with trio.fail_after(WAIT_S):
        async with open_node("a", tuning=tuned(close_timeout_ms=300)):
            pass
    assert hung.is_set()


def signalled(mode, number):
    """Run two nodes, send a signal, and return what they said on both outputs."""
    command = [sys.executable, "-c", NODE, mode]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        return process.communicate(timeout=WAIT_S)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_node_quickly_and_quietly(number):
    assert signalled("caught", number) == ("over\n", "")


@pytest.mark.slow
def test_an_interrupt_that_nobody_catches_is_all_there_is():
    assert signalled("uncaught", signal.SIGINT) == ("KeyboardInterrupt\n", "")
