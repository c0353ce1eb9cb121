"""Every job of a surviving requester ends, once, and its last event says how.

Spec: specs/core.md#jobs. After all deadlines no job is open.
"""

from collections.abc import Iterator
from typing import Final

from protocol.core.jobs import Ending
from protocol.machines.events import Done, Failed
from tests.faults.network import FaultyNetwork

NAME: Final = "every job ends once"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    for node, job_id in network.jobs:
        if not node.online:
            continue
        happened, ending = node.disk.events.get(job_id, []), network.job(node, job_id).ending
        ends = [event for event in happened if isinstance(event, Done | Failed)]
        if ending is Ending.OPEN:
            yield f"a job of {node.name} is open for ever"
        elif len(ends) != 1 or ends[0] is not happened[-1]:
            yield f"a job of {node.name} ended {len(ends)} times"
        elif isinstance(ends[0], Done) != (ending is Ending.DONE):
            yield f"a job of {node.name} is {ending} after {type(ends[0]).__name__}"
        elif isinstance(ends[0], Failed) and not ends[0].why:
            yield f"a job of {node.name} failed without a reason"
