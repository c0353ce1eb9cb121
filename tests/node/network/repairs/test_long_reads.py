"""Stock: a message in more than a hundred pieces is given up. Repaired: it is read.

Spec: specs/network.md.
"""

import pytest
import trio
from libp2p.io import utils
from libp2p.io.exceptions import IncompleteReadError

from node.network.repairs import long_reads
from tests.node.network.repairs.stock import stock_function


class Drops:
    """Gives one byte at a time."""

    def __init__(self, count):
        self.left = count

    async def read(self, n=None):
        await trio.lowlevel.checkpoint()
        if not self.left:
            return b""
        self.left -= 1
        return b"x"


async def test_stock_gives_up():
    with pytest.raises(IncompleteReadError):
        await stock_function(utils, "read_exactly")(Drops(500), 500)


async def test_repaired_reads_on():
    assert await long_reads.read_exactly(Drops(500), 500) == b"x" * 500


async def test_the_end_of_file_is_told():
    with pytest.raises(IncompleteReadError) as caught:
        await long_reads.read_exactly(Drops(3), 500)
    assert caught.value.received_bytes == 3


async def test_those_who_imported_it_before_have_it_too():
    from libp2p.stream_muxer.yamux.yamux import read_exactly as imported_by_name

    long_reads.apply()
    assert await imported_by_name(Drops(500), 500) == b"x" * 500
    assert await imported_by_name(Drops(0), 0) == b""
