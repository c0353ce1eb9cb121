"""A daemon explains jobs: before they are submitted, while they wait, afterwards.

Spec: specs/advice.md.
"""

from dataclasses import replace

import pytest
import trio

from protocol.values.errors import Conflict
from protocol.wire.job import Resources, Terms
from tests.node.fixtures import BEA, spec_of
from tests.node.local_node import LocalPair


async def test_a_job_that_is_not_submitted(pair: LocalPair) -> None:
    workload = await pair.ada.node_folder.workload()
    view = pair.ada.node.advice.dry_run(spec_of(workload))
    assert (view.nodes, view.eligible, view.job, view.mismatches) == (1, 1, None, ())
    assert (view.start.place, view.start.waiting, view.start.why) == (None, 0, "")
    assert view.price is not None
    assert view.price.why == "the job's highest price"
    free = pair.ada.node.advice.dry_run(spec_of(workload, terms=Terms(0)))
    assert free.price is not None
    assert free.price.cap_hour == free.price.lowest_hour == view.price.lowest_hour

    large = replace(workload, resources=replace(workload.resources, cpus=5))
    view = pair.ada.node.advice.dry_run(spec_of(large, terms=Terms(1)))
    assert [(each.code, each.nodes) for each in view.mismatches] == [("cpus", 1), ("price", 1)]
    assert view.near_misses == ()
    view = pair.ada.node.advice.dry_run(spec_of(large))
    assert [(near.peer, near.wanted, near.has) for near in view.near_misses] == [
        (BEA.peer_id, "5", "4")
    ]
    assert [(each.field, each.value, each.nodes) for each in view.changes] == [("cpus", "4", 1)]
    cheap = pair.ada.node.advice.dry_run(spec_of(workload, terms=Terms(1)))
    assert cheap.price is not None
    assert cheap.price.cap_hour == "0.0000"


async def test_a_job_that_waits_and_one_that_runs(pair: LocalPair) -> None:
    explain = pair.ada.node.advice.explain
    workload = replace(await pair.ada.node_folder.workload(), resources=Resources(cpus=4))
    running = (await pair.jobs.submit(spec_of(workload))).id
    await pair.phase(running, "running")
    other = replace(workload, timeout_ms=5_000)  # A call of its own.
    waiting = (await pair.jobs.submit(spec_of(other))).id
    with trio.fail_after(15):
        while not (view := await explain(waiting)).waits:  # noqa: ASYNC110 - it reads the journal.
            await trio.sleep(0.005)
    assert (view.start.place, view.start.waiting) == (1, 1)
    assert view.start.gives_up_in_ms is not None
    assert "1 refused: busy with other jobs" in view.start.why
    assert view.job is not None
    assert (view.job.id, view.waits[0].reason) == (waiting, "no-bids")
    assert (await explain(running)).start.place is None
    await pair.jobs.cancel(waiting)
    await pair.finish(running)
    view = await explain(running[:8])
    assert view.job is not None
    assert (view.job.phase, len(view.job.bids), view.start.answering) == ("done", 1, 1)


async def test_a_job_of_an_array(pair: LocalPair) -> None:
    workload = await pair.ada.node_folder.workload()
    huge = replace(workload, resources=replace(workload.resources, cpus=99))
    array = await pair.jobs.submit_array([spec_of(huge)] * 2, [0, 5])
    explain = pair.ada.node.advice.explain
    with pytest.raises(Conflict, match=r"is an array: name one of its jobs, .*\[INDEX\]"):
        await explain(array.id)
    view = await explain(f"{array.id}[5]")
    assert view.job is not None
    assert (view.eligible, [each.code for each in view.mismatches][:1]) == (0, ["cpus"])
