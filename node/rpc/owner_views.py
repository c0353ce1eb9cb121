"""The API's answers about what the owner decides: specs/owner.md.

Spec: specs/rpc.md#views.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConditionView:
    """A condition under which the node takes new jobs."""

    rule: str
    """The setting."""
    met: bool | None
    """None if the machine does not say: then it forbids nothing."""
    seen: str


@dataclass(frozen=True, slots=True)
class RefusalView:
    """Calls of one requester that this node refused by one rule."""

    at_ms: int
    """When the last of them came."""
    requester: str
    rule: str
    """A stable code."""
    why: str
    remedy: str
    """What the owner can change; empty if nothing would help."""
    count: int


@dataclass(frozen=True, slots=True)
class SettingView:
    """A setting that has changed in the configuration."""

    key: str
    before: str
    after: str
    applies: bool
    """Whether it applies now; if not, it needs a restart of the node."""


@dataclass(frozen=True, slots=True)
class OwnerView:
    """What the owner said last, and what follows from it."""

    mode: str
    """`open`, `paused`, `draining` or `reclaimed`."""
    closed: str
    """One line: why the node takes no new jobs; empty if it takes them."""
    jobs: int
    """The jobs of others that have not ended."""
    until_ms: int | None = None
    """When reclaimed jobs end at the latest."""
    conditions: tuple[ConditionView, ...] = ()
    """Those that are set."""
