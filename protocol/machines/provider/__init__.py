"""The machines of a provider: a bidding answers a call, a lease serves its requester.

Spec: specs/core.md#machines.
"""

from protocol.machines.provider import bidding, lease

__all__ = ["bidding", "lease"]
