"""What a node says of a gossiped message.

Spec: specs/gossip.md.
"""

from enum import Enum


class Verdict(Enum):
    """What happens to a gossiped message after a rule has looked at it."""

    ACCEPT = "accept"  # It was new and right: forward it.
    IGNORE = "ignore"  # It is late, a repetition or not for us: drop it, free of charge.
    LATER = "later"  # There is no room for it from this peer now: drop it; a copy may come.
    REJECT = "reject"  # It breaks the spec: drop it, and it costs the forwarding peer score.
