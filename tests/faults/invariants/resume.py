"""C1: a job resumes from its newest acknowledged checkpoint, and no checkpoint goes back.

Spec: specs/checkpoints.md#while-it-runs. An acknowledgement leaves a node only when the resume
point is on its disk, and each attempt is deployed with the newest one there.
"""

from collections.abc import Iterator
from typing import Final

from protocol.machines.effects import KeepCheckpoint
from protocol.values.ids import JobId, LeaseId
from protocol.wire.messages import CheckpointAck, Deploy
from tests.faults.history import Committed, Sent
from tests.faults.network import FaultyNetwork

NAME: Final = "C1 resume points"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    newest: dict[JobId, KeepCheckpoint] = {}
    kept: set[tuple[LeaseId, int]] = set()
    for fact in network.history.facts:
        match fact:
            case Committed():
                for effect in fact.effects:
                    if isinstance(effect, KeepCheckpoint):
                        yield from _fall(network, newest.get(effect.job_id), effect)
                        newest[effect.job_id] = effect
                        kept.add((effect.lease_id, effect.checkpoint.sequence))
                for signed in fact.said:
                    if isinstance(signed.message, Deploy):
                        yield from _strange_start(network, newest, signed.message)
            case Sent(signed=signed) if isinstance(signed.message, CheckpointAck):
                answer = signed.message
                if answer.kept and (answer.lease_id, answer.sequence) not in kept:
                    yield "a checkpoint is acknowledged that is not on the disk"


def _fall(
    network: FaultyNetwork, before: KeepCheckpoint | None, after: KeepCheckpoint
) -> Iterator[str]:
    if before is None:
        return
    if after.number <= before.number:
        yield "a checkpoint has an old number"
    done_ms = network.containers.done_ms
    done = [done_ms[each.checkpoint.listing.digest] for each in (before, after)]
    if done[1] < done[0]:
        yield "a newer checkpoint holds less work"


def _strange_start(
    network: FaultyNetwork, newest: dict[JobId, KeepCheckpoint], deploy: Deploy
) -> Iterator[str]:
    point = newest.get(network.history.places[deploy.lease_id].job_id)
    wanted = (point.checkpoint.listing,) if point else ()
    if deploy.workload.resume != wanted:
        yield "an attempt does not begin at the newest resume point"
