"""What a step may know besides its state and its input: the time, our key and our policy.

Spec: specs/core.md#context.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocol.rules.capacity import Capacity
from protocol.rules.standing import STRANGER, Standing
from protocol.values.ids import PeerId
from protocol.wire.envelope import Signer
from protocol.wire.messages import Prices

NO_CAPACITY: Final = Capacity()
FREE: Final = Prices()


@dataclass(frozen=True, slots=True)
class Policy:
    """What the owner of this node allows: it is the master of the machine."""

    providing: bool = False
    capacity: Capacity = NO_CAPACITY
    prices: Prices = FREE
    region: str = ""
    driver: str = ""
    isolation: int = 1
    soft_limits: tuple[str, ...] = ()
    jobs_max: int = 64
    """Leases that this node has at one time."""
    pause_ms: int = 10 * 60_000
    """A container beyond its budget waits so long for a voucher, paused; then it ends."""
    pause_memory_mib: int = 0
    """Memory that paused containers may hold together. Beyond it those paused longest end."""
    addresses: tuple[str, ...] = ()
    images: tuple[bytes, ...] = ()
    agent: str = ""


def nobody_known(peer: PeerId) -> Standing:
    """Return the standing of a peer for a node that has dealt with nobody."""
    return STRANGER


@dataclass(frozen=True, slots=True)
class Context:
    """The time in Unix milliseconds (monotonic since the node started), our key, our policy."""

    now_ms: int
    signer: Signer
    policy: Policy
    standing_of: Callable[[PeerId], Standing] = nobody_known
    """What we know of a peer's earlier conduct."""
