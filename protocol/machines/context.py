"""What a step knows besides its state and its input: the time, our key and our policy.

Spec: specs/core.md#context.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocol.rules.capacity import Capacity
from protocol.rules.owner_rules import NO_RULES, OwnerRules
from protocol.rules.standing import STRANGER, Standing
from protocol.rules.start_promise import UNMEASURED, Preparation
from protocol.values.ids import PeerId
from protocol.values.limits import AUDIT_PERCENT, LEASE_ABSENCE_MS, NOTICE_MS
from protocol.wire.envelope import Signer
from protocol.wire.messages import Prices

NO_CAPACITY: Final = Capacity()
FREE: Final = Prices()


@dataclass(frozen=True, slots=True)
class Policy:
    """What the owner of this node allows."""

    providing: bool = False
    capacity: Capacity = NO_CAPACITY
    prices: Prices = FREE
    floor_percent: int = 100
    """The least that it asks, in percent of its list prices; only the owner knows it."""
    region: str = ""
    driver: str = ""
    isolation: int = 1
    soft_limits: tuple[str, ...] = ()
    jobs_max: int = 64
    """The most leases that this node has at a time."""
    pause_ms: int = LEASE_ABSENCE_MS
    """How long a container that has used its budget stays paused before it is stopped."""
    pause_memory_mib: int = 0
    """The most memory that all paused containers hold; beyond it those paused longest are
    stopped."""
    notice_ms: int = NOTICE_MS
    """How long before a stop of the node a job with a checkpoint is told."""
    audit_percent: int = AUDIT_PERCENT
    """How many of its commit sets this node compares with another bidder, in percent."""
    addresses: tuple[str, ...] = ()
    agent: str = ""
    rules: OwnerRules = NO_RULES
    closed: str = ""
    """Why a node that lends its machine takes no new jobs now: then `providing` is false."""
    egress: tuple[str, ...] = ()
    """The names that jobs may reach, or `any`."""


def nobody_known(peer: PeerId) -> Standing:
    """Return the standing of a peer for a node without any experience."""
    return STRANGER


@dataclass(frozen=True, slots=True)
class Context:
    """The time in Unix milliseconds (monotonic since the node started), our key, our policy."""

    now_ms: int
    signer: Signer
    policy: Policy
    standing_of: Callable[[PeerId], Standing] = nobody_known
    """What we know of a peer's past conduct."""
    preparation: Preparation = UNMEASURED
    """How fast this node prepares jobs."""
