"""The machines of a requester: an auction finds a provider, a lease runs the job there.

Spec: specs/core.md#machines.
"""

from protocol.machines.requester import auction, lease

__all__ = ["auction", "lease"]
