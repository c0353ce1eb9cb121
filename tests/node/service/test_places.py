"""Places in the queue as the API shows them. Spec: specs/queue.md#order."""

from node.rpc.job_views import QueueView
from node.service.places import queue_view
from protocol.core.queue import QueuePlace


def test_a_place_is_shown_field_by_field() -> None:
    assert queue_view(QueuePlace(3, 20, "all are busy", 7, 9)) == QueueView(
        place=3, jobs=20, why="all are busy", retry_ms=7, until_ms=9
    )
    assert queue_view(None) is None
