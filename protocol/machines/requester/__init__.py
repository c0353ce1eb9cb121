"""The machines of a requester: an auction sells slots, an award places a job, a lease runs it.

Spec: specs/core.md#machines.
"""

from protocol.machines.requester import auction, award, lease

__all__ = ["auction", "award", "lease"]
