"""Messages may arrive in any number of pieces.

Without this repair, a message that arrives in more than a hundred pieces (6 MB from a fast peer,
far less from one that writes small frames) is treated as if the connection had closed.

The function is imported by name all over libp2p, so its code is replaced, not the function.

Spec: specs/network.md.
"""

from libp2p.io import utils
from libp2p.io.abc import Reader
from libp2p.io.exceptions import IncompleteReadError


async def read_exactly(reader: Reader, n: int, retry_count: int = 0) -> bytes:
    """Read n bytes, in any number of pieces; IncompleteReadError at the end of file."""
    del retry_count
    piece = await reader.read(n)
    if len(piece) == n:  # Almost always.
        return piece
    data = bytearray()
    while True:
        if not piece:
            raise IncompleteReadError(
                f"connection closed after {len(data)} of {n} bytes",
                expected_bytes=n,
                received_bytes=len(data),
            )
        data += piece
        if len(data) == n:
            return bytes(data)
        piece = await reader.read(n - len(data))


def apply() -> None:
    """Put our code into libp2p's function; it uses the names of libp2p's module."""
    assert vars(utils)["IncompleteReadError"] is IncompleteReadError
    utils.read_exactly.__code__ = read_exactly.__code__
