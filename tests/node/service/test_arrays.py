"""Arrays of jobs of whole daemons. Spec: specs/arrays.md."""

from dataclasses import replace
from typing import Any

import pytest
import trio

from node.rpc.views import PhaseCounts
from protocol.values.errors import Conflict, NotFound
from protocol.wire.job import Terms
from tests.node.fixtures import spec_of, until
from tests.node.local_node import LocalPair


async def submit(pair: LocalPair, indices: list[int], key: bytes = b"", **terms: Any) -> Any:
    workload = await pair.ada.node_folder.workload(("in", b"input"))
    spec = spec_of(workload, key=key, terms=replace(Terms(100_000), **terms))
    return await pair.jobs.submit_array([spec] * len(indices), indices)


async def ended(pair: LocalPair, array: str) -> Any:
    with trio.fail_after(15):
        async for event in pair.jobs.events(array, 0):
            last = event
    return last, await pair.jobs.get(array)


async def test_one_id_for_the_whole(pair: LocalPair) -> None:
    array = await submit(pair, [3, 5, 9], queue_ms=60_000)
    assert (array.size, len(array.id)) == (3, 24)
    (listed,) = await pair.jobs.page(10, None)
    assert listed.id == array.id
    members = await pair.jobs.members(array.id[:8], 2, 3)
    assert [member.index for member in members] == [5, 9]
    job = await pair.jobs.get(f"{array.id}[5]")
    assert job.id == members[0].id
    assert (array.queue.place, array.queue.jobs) == (1, 3)
    with pytest.raises(NotFound, match="lists the members"):
        await pair.jobs.get(f"{array.id}[4]")
    with pytest.raises(Conflict, match="name one of its jobs"):
        await pair.jobs.outputs(array.id)
    spec = pair.ada.node.core.requester.jobs[bytes.fromhex(job.id)].spec
    env = {each.name: each.value for each in spec.workload.env}
    assert env["MUTIRAO_ARRAY_INDEX"] == "5"
    assert (env["MUTIRAO_ARRAY_ID"], env["MUTIRAO_ARRAY_SIZE"]) == (array.id, "3")


async def test_a_repeated_key_makes_no_second_array(pair: LocalPair) -> None:
    array = await submit(pair, [0, 1], b"key")
    assert (await submit(pair, [0, 1], b"key")).id == array.id
    assert len(await pair.jobs.page(10, None)) == 1
    for other in ([0, 2], [0, 1, 2]):
        with pytest.raises(Conflict, match="different content"):
            await submit(pair, other, b"key")


async def test_nobody_serves_it_and_then_all_is_tried_again(pair: LocalPair) -> None:
    workload = await pair.ada.node_folder.workload()
    huge = replace(workload, resources=replace(workload.resources, cpus=99))
    spec = spec_of(huge, terms=Terms(100_000, queue_ms=0))
    array = await pair.jobs.submit_array([spec, spec], [0, 1])
    last, view = await ended(pair, array.id)
    assert (view.phase, view.failed) == ("failed", 2)
    assert [failure.indices for failure in view.failures] == [(0, 1)]
    assert (last.kind, last.seq, last.detail["array"]["failed"]) == ("members", 2, 2)
    counts = pair.jobs.counts()
    assert counts.failed == 2
    again = await pair.jobs.retry(array.id)
    assert again.size == 2
    await ended(pair, array.id)
    assert pair.jobs.counts().failed == 2


async def test_cancel_of_the_whole(pair: LocalPair) -> None:
    workload = await pair.ada.node_folder.workload()
    huge = replace(workload, resources=replace(workload.resources, cpus=99))
    array = await pair.jobs.submit_array([spec_of(huge)] * 3, [0, 1, 2])
    view = await pair.jobs.cancel(array.id)
    assert (view.phase, view.cancelled) == ("cancelled", 3)


async def test_those_beyond_the_limit_wait_for_the_others_and_are_cancelled_first(
    pair: LocalPair,
) -> None:
    spec = replace(spec_of(await pair.ada.node_folder.workload()), max_running=1)
    array = await pair.jobs.submit_array([spec] * 3, [0, 1, 2])
    assert (array.max_running, array.waiting) == (1, 3)
    await pair.phase(f"{array.id}[0]", "running")
    held = await pair.jobs.get(f"{array.id}[1]")
    assert held.queue.why == "its array runs at most 1 of its jobs at once"
    await pair.jobs.cancel(array.id)
    _, view = await ended(pair, array.id)
    assert (view.phase, view.cancelled) == ("cancelled", 3)
    kinds = [[event.kind for event in await events_of(pair, array.id, n)] for n in (1, 2)]
    assert kinds == [["failed"], ["failed"]], "neither was called for"


async def test_a_member_that_succeeds_on_a_retry_is_done(pair: LocalPair) -> None:
    spec = replace(spec_of(await pair.ada.node_folder.workload()), max_running=1)
    array = (await pair.jobs.submit_array([spec] * 2, [0, 1])).id
    for index, code in ((0, 0), (1, 3)):
        await pair.phase(f"{array}[{index}]", "running")
        await pair.finish(f"{array}[{index}]", code)
    _, view = await ended(pair, array)
    assert (view.phase, view.done, view.failed) == ("failed", 1, 1)
    await pair.jobs.retry(array)
    await pair.phase(f"{array}[1]", "running")
    await pair.finish(f"{array}[1]", 0)
    last, view = await ended(pair, array)
    assert (view.phase, view.done, view.failed, view.failures) == ("done", 2, 0, ())
    assert [member["index"] for member in last.detail["ended"]] == [0, 1]
    assert pair.jobs.counts().done == 2


async def test_a_held_job_that_is_to_run_again_is_queued_also_after_a_restart(
    pair: LocalPair,
) -> None:
    workload = await pair.ada.node_folder.workload()
    huge = replace(workload, resources=replace(workload.resources, cpus=99))
    spec = replace(spec_of(huge), max_running=1)
    array = (await pair.jobs.submit_array([spec] * 2, [0, 1])).id
    await pair.jobs.cancel(array)
    await ended(pair, array)
    await pair.jobs.retry(array)
    held = await pair.jobs.get(f"{array}[1]")
    assert (held.phase, held.ended_ms, held.queue.until_ms) == ("queued", None, None)
    await until(lambda: pair.jobs.counts() == PhaseCounts(queued=2))
    await pair.ada.crash()
    await pair.network.start(pair.ada)
    assert pair.jobs._phases[bytes.fromhex(held.id)] == "queued"
    assert pair.jobs.counts().cancelled == 0


async def test_a_retry_of_one_member_leaves_the_others(pair: LocalPair) -> None:
    workload = await pair.ada.node_folder.workload()
    huge = replace(workload, resources=replace(workload.resources, cpus=99))
    spec = spec_of(huge, terms=Terms(100_000, queue_ms=0))
    array = await pair.jobs.submit_array([spec] * 3, [0, 1, 2])
    await ended(pair, array.id)
    before = [await events_of(pair, array.id, index) for index in range(3)]
    await pair.jobs.retry(f"{array.id}[1]")
    await ended(pair, array.id)
    after = [await events_of(pair, array.id, index) for index in range(3)]
    assert [len(b) < len(a) for b, a in zip(before, after, strict=True)] == [False, True, False]


async def test_a_gang_is_one_and_runs_again_as_a_whole(pair: LocalPair) -> None:
    gang = await submit(pair, [0, 1, 2], b"key", nodes=3, queue_ms=0, rate_max=1)
    assert (gang.gang, gang.size) == (True, 3)
    last, view = await ended(pair, gang.id)
    assert (view.phase, view.failed) == ("failed", 3)
    with pytest.raises(Conflict, match="as a whole"):
        await pair.jobs.retry(f"{gang.id}[1]")
    before = [await events_of(pair, gang.id, rank) for rank in range(3)]
    await pair.jobs.retry(gang.id)
    await ended(pair, gang.id)
    after = [await events_of(pair, gang.id, rank) for rank in range(3)]
    assert all(len(b) < len(a) for b, a in zip(before, after, strict=True))
    assert last.detail["array"]["gang"]


async def events_of(pair: LocalPair, array: str, index: int) -> list[Any]:
    return [event async for event in pair.jobs.events(f"{array}[{index}]", 0)]
