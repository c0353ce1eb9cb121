"""RPCs come whole, in whatever pieces; few large ones come at a time, and in time.

Spec: specs/gossip.md#limits.
"""

import pytest
import trio
import trio.testing
from libp2p.exceptions import ParseError
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.utils.varint import encode_uvarint, encode_varint_prefixed

from node.network.rpc_stream import (
    LARGE_AT_ONCE_MAX,
    LARGE_S,
    RPC_BYTES_MAX,
    SMALL_BYTES,
    RpcStream,
)


class Stream:
    """Gives what it was given, in pieces of at most a size; then it ends, or rests."""

    def __init__(self, data=b"", piece=10**6, rests=False):
        self.data, self.piece, self.rests = data, piece, rests
        self.reads = 0

    async def read(self, size):
        await trio.lowlevel.checkpoint()
        if self.rests and not self.data:
            await trio.sleep_forever()
        self.reads += 1
        size = min(size, self.piece)
        piece, self.data = self.data[:size], self.data[size:]
        return piece


def reading(stream, large=None):
    return RpcStream(stream, large or trio.CapacityLimiter(LARGE_AT_ONCE_MAX))


RPCS = [b"", b"x", bytes(127), bytes(128), bytes(20_000), bytes(RPC_BYTES_MAX), b"last"]


@pytest.mark.parametrize("piece", [1, 7, 4096, 10**6])
async def test_rpcs_come_whole_in_whatever_pieces(piece):
    rpcs = RPCS if piece > 1 else RPCS[:4]
    made = reading(Stream(b"".join(map(encode_varint_prefixed, rpcs)), piece))
    assert [await made.receive() for _ in rpcs] == rpcs
    with pytest.raises(StreamEOF):
        await made.receive()


async def test_many_small_rpcs_cost_few_reads():
    stream = Stream(encode_varint_prefixed(bytes(30)) * 400)
    made = reading(stream)
    for _ in range(400):
        await made.receive()
    assert stream.reads == 1


@pytest.mark.parametrize("bad", [encode_uvarint(RPC_BYTES_MAX + 1), b"\xff" * 12, b"\x80\x80\x80"])
async def test_a_length_that_is_too_long_is_a_fault(bad):
    with pytest.raises(ParseError):
        await reading(Stream(bad, rests=True)).receive()


async def test_half_an_rpc_is_none():
    with pytest.raises(StreamEOF):
        await reading(Stream(encode_varint_prefixed(bytes(100))[:-1])).receive()


async def test_few_large_rpcs_are_read_at_a_time_and_none_for_long(autojump_clock):
    large = trio.CapacityLimiter(LARGE_AT_ONCE_MAX)
    slow = [Stream(encode_uvarint(RPC_BYTES_MAX) + bytes(9), rests=True) for _ in range(100)]
    held = []

    async def wait(stream):
        made = reading(stream, large)
        held.append(made)
        with pytest.raises(trio.TooSlowError):
            await made.receive()

    async with trio.open_nursery() as nursery:
        for stream in slow:
            nursery.start_soon(wait, stream)
        await trio.testing.wait_all_tasks_blocked()
        for stream in slow:
            stream.data = bytes(RPC_BYTES_MAX // 2)
        small = reading(Stream(encode_varint_prefixed(bytes(SMALL_BYTES))), large)
        assert len(await small.receive()) == SMALL_BYTES  # It need not wait.
        started_s = trio.current_time()
        kept = reading(Stream(encode_varint_prefixed(bytes(SMALL_BYTES + 1))), large)
        assert len(await kept.receive()) == SMALL_BYTES + 1  # It waits until some are given up.
        assert trio.current_time() - started_s <= 5 * LARGE_S
    assert large.borrowed_tokens == 0
