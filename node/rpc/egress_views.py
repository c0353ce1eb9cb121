"""The API's answer about what jobs reached: specs/egress.md.

Spec: specs/rpc.md#views.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReachedView:
    """How a job used the proxy for one name and port, with one outcome."""

    lease: str
    requester: str
    host: str
    port: int
    refused: str
    """One line: why it was refused, or ended early; empty if it was not."""
    uses: int
    sent: int
    received: int
    """Bytes to and from the server."""
    first_ms: int
    last_ms: int
