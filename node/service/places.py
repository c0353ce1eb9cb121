"""The places of waiting jobs in the queue, as their user sees them.

Spec: specs/queue.md#order.
"""

from dataclasses import astuple
from typing import Final

from node.rpc.job_views import QueueView
from protocol.core.queue import QueuePlace

PLACE_POLL_S: Final = 1.0
"""How often the followers of a waiting job look at its place: any other job may change it."""


def queue_view(place: QueuePlace | None) -> QueueView | None:
    """Return a place as the API shows it."""
    return None if place is None else QueueView(*astuple(place))
