"""The result of a job is delivered once, and it is that of the job's newest lease.

Spec: specs/lease.md#completed.
"""

from collections.abc import Iterator
from typing import Final

from protocol.machines.events import Awarded, Done
from protocol.values.ids import digest_of
from tests.faults.network import FaultyNetwork

NAME: Final = "one result"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    for node, job_id in network.jobs:
        happened = node.disk.events.get(job_id, [])
        done = [event for event in happened if isinstance(event, Done)]
        leases = [event.lease_id for event in happened if isinstance(event, Awarded)]
        if len(done) > 1:
            yield "a result was delivered twice"
        # A simulated container leaves the digest of its lease.
        if done and done[0].outputs != digest_of(leases[-1]):
            yield "the result is not that of the newest lease"
