"""Windows grow only where we requested large data.

Without this repair, the window of any stream doubles up to 16 MiB while its peer sends fast: all
streams of a peer together may then fill gigabytes.

Repaired, only the windows of streams that we opened grow (they fetch blobs and logs), up to a limit
per connection. A peer's own streams carry requests, which fit into the initial window.

Spec: specs/network.md#limits.
"""

from libp2p.stream_muxer.yamux import yamux

from node.network.muxer import GROWTH_BYTES_MAX, RepairedYamux

STOCK = yamux.YamuxStream._apply_autotune_epoch  # noqa: SLF001


def grow(self: yamux.YamuxStream, buffered: int) -> int:
    """Return the number of bytes by which the window grows now."""
    connection, target = self.conn, self.target_recv_window
    if not (self.is_initiator and isinstance(connection, RepairedYamux)):
        return 0
    more = min(2 * target, GROWTH_BYTES_MAX) - target
    return STOCK(self, buffered) if more > 0 and connection.may_grow(more) else 0


def apply() -> None:
    """Apply our rule before the stream's own."""
    yamux.YamuxStream._apply_autotune_epoch = grow  # type: ignore[method-assign]  # noqa: SLF001
