"""A node's verdict on a gossiped message.

Spec: specs/gossip.md.
"""

from enum import Enum


class Verdict(Enum):
    """What happens to a gossiped message after its check."""

    ACCEPT = "accept"  # It is new and valid: forward it.
    IGNORE = "ignore"  # It is late, a repetition or not for us: discard it without a penalty.
    LATER = "later"  # There is no room for it now: discard it; a copy may come.
    REJECT = "reject"  # It violates the spec: discard it, and penalise the forwarding peer.
