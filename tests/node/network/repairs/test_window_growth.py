"""Stock: the window of any stream doubles. Repaired: only those of streams that we opened.

How far they grow: tests/node/network/test_muxer.py.
Spec: specs/network.md#limits.
"""

import pytest
from libp2p.stream_muxer.yamux import yamux

from node.network.repairs import window_growth
from tests.node.network.repairs.stock import stock_function


class Connection:
    """Of stock libp2p."""

    def rtt(self):
        return 0.001


@pytest.mark.parametrize("is_ours", [True, False])
async def test_stock_grows_any_window(is_ours):
    stock = stock_function(yamux, "YamuxStream._apply_autotune_epoch")
    stream = yamux.YamuxStream(1, Connection(), is_initiator=is_ours)
    assert stock(stream, 0) > 0


async def test_repaired_does_not():
    window_growth.apply()
    stream = yamux.YamuxStream(1, Connection(), is_initiator=False)
    assert stream._apply_autotune_epoch(0) == 0
    assert stream.target_recv_window == yamux.DEFAULT_WINDOW_SIZE
