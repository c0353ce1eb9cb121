"""Job events: a user's story, that every node tells with the same words.

Spec: specs/core.md#job-events.
"""

from typing import get_args

import pytest
from hypothesis import given

from protocol.machines.events import JobEvent
from protocol.wire.snapshot import from_snapshot, to_snapshot
from tests.strategies import snapshots
from tests.wording import of_event


@given(snapshots(JobEvent))
def test_every_event_can_be_written_down_and_told(event: JobEvent) -> None:
    assert from_snapshot(JobEvent, to_snapshot(event)) == event
    assert type(event).__name__ in of_event(event, lambda peer: "ben")


@pytest.mark.parametrize("kind", get_args(JobEvent), ids=lambda kind: kind.__name__)
def test_events_are_frozen(kind: type) -> None:
    assert kind.__dataclass_params__.frozen
