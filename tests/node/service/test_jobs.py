"""Jobs of whole daemons as the API asks for them: from submission to outputs.

Spec: specs/rpc.md#service.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from node.driver.driver import Queue
from node.provider import log_server
from node.requester import log_follower
from node.rpc.job_views import JobEventView
from node.rpc.views import PhaseCounts
from node.sandbox.driver import log_path
from node.service import jobs as jobs_module
from protocol.core.jobs import Ending, Job
from protocol.machines.effects import Progress
from protocol.machines.inputs import Input, JobSubmitted
from protocol.values.errors import BlobUnavailable, Conflict, NotFound
from protocol.values.ids import JobId
from protocol.wire.job import Terms
from tests.node.fixtures import BEA, JOB, spec_of, until
from tests.node.local_node import LocalPair


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follower, "RETRY_S", 0.01)
    monkeypatch.setattr(log_server, "POLL_S", 0.005)


async def read(stream: AsyncIterator[Any]) -> list[Any]:
    with trio.fail_after(15):
        return [item async for item in stream]


# --- a job's way --------------------------------------------------------------------------


async def test_a_job_from_submission_to_its_outputs(pair: LocalPair) -> None:
    job = await pair.submit(("in", b"input"))
    view = await pair.finish(job, 7, result=b"42")
    assert (view.exit_code, view.reason, view.provider) == (7, None, BEA.peer_id)
    assert view.receipt.requester_signature
    assert view.receipt.provider_signature
    (output,) = await pair.jobs.outputs(job)
    assert (output.path, output.size) == ("result", 2)
    assert (await pair.jobs.output(job, "result")).place.read_bytes() == b"42"
    assert [step for step in vars_of(view.steps) if step is not None]


def vars_of(view: Any) -> list[Any]:
    return [getattr(view, name) for name in view.__slots__]


async def test_the_list_of_outputs_is_read_once_for_all_its_files(
    pair: LocalPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await pair.submit()
    files = {f"file {number}": b"%d" % number for number in range(40)}
    await pair.finish(job, 0, **files)
    calls: list[str] = []
    for owner, name in ((pair.ada.node.results, "outputs"), (pair.jobs, "_view")):
        monkeypatch.setattr(owner, name, noted(calls, name, getattr(owner, name)))
    for output in await pair.jobs.outputs(job):
        found = await pair.jobs.output(job, output.path)
        assert (found.view, found.place.read_bytes()) == (output, files[output.path])
    assert len(await pair.jobs.stored_outputs(job)) == 40
    assert sorted(calls) == ["_view", "outputs"]
    with pytest.raises(NotFound, match="no output 'nothing'"):
        await pair.jobs.output(job, "nothing")
    found.place.unlink()
    with pytest.raises(BlobUnavailable, match="no longer stored here"):
        await pair.jobs.output(job, output.path)


def noted(calls: list[str], name: str, function: Callable[..., Awaitable[Any]]) -> Any:
    async def called(*arguments: Any) -> Any:
        calls.append(name)
        return await function(*arguments)

    return called


async def test_outputs_of_few_jobs_stay_in_memory(pair: LocalPair) -> None:
    for _ in range(jobs_module.OUTPUTS_KEPT_MAX + 1):
        job = await pair.submit()
        await pair.finish(job, 0, result=b"1")
        await pair.jobs.outputs(job)
    assert len(pair.jobs._outputs) == jobs_module.OUTPUTS_KEPT_MAX


async def test_a_job_with_no_outputs(pair: LocalPair) -> None:
    job = await pair.running()
    await pair.finish(job)
    assert await pair.jobs.outputs(job) == ()


async def test_nothing_is_pinned_and_nothing_runs_when_all_is_over(pair: LocalPair) -> None:
    job = await pair.submit(("in", b"input"))
    await pair.finish(job, result=b"42")
    for one in (pair.ada, pair.bea):
        await until(lambda one=one: one.node_folder.blobs._pins == {}, "nothing to be pinned")
    await pair.bea.node.executions.wait_dropped()
    assert list(pair.bea.node_folder.context.runs.iterdir()) == []
    assert pair.bea.node.executions._known == {}
    assert (pair.jobs._progress, pair.jobs._news) == ({}, {})
    assert (pair.ada.node.results._following, pair.ada.node.results._fetching) == ({}, {})


async def test_a_job_that_nobody_can_run(pair: LocalPair) -> None:
    workload = await pair.ada.node_folder.workload()
    huge = replace(workload, resources=replace(workload.resources, cpus=99))
    job = (await pair.jobs.submit(spec_of(huge, terms=Terms(100_000, queue_ms=0)))).id
    view = await pair.phase(job, "failed")
    assert view.reason == "no-match"
    with pytest.raises(Conflict, match="has no outputs"):
        await pair.jobs.outputs(job)


async def test_a_job_that_waits_has_a_place(pair: LocalPair) -> None:
    workload = await pair.ada.node_folder.workload()
    huge = replace(workload, resources=replace(workload.resources, cpus=99))
    jobs = [(await pair.jobs.submit(spec_of(huge, key=key))).id for key in (b"a", b"b")]
    views = [await pair.phase(job, "queued") for job in jobs]
    assert [(view.queue.place, view.queue.jobs) for view in views] == [(1, 2), (2, 2)]
    assert views[0].queue.until_ms == views[0].submitted_ms + Terms(1).queue_ms
    assert [view.queue.place for view in await pair.jobs.page(10, None)] == [2, 1]


async def test_followers_are_told_when_the_place_changes(
    pair: LocalPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "PLACE_POLL_S", 0.01)
    workload = await pair.ada.node_folder.workload()
    huge = replace(workload, resources=replace(workload.resources, cpus=99))
    first, second = [(await pair.jobs.submit(spec_of(huge, key=key))).id for key in (b"a", b"b")]
    places = []
    with trio.fail_after(15):
        async for event in pair.jobs.events(second, 0):
            if event.kind != "place":
                continue
            places.append((event.detail["place"], event.detail["jobs"]))
            if places[-1] == (2, 2):
                await pair.jobs.cancel(first)
            if places[-1] == (1, 1):
                await pair.jobs.cancel(second)
    assert places == [(2, 2), (1, 1)]


async def test_cancelling(pair: LocalPair) -> None:
    job = await pair.running()
    (serving,) = pair.bea.node.core.provider.leases.values()
    clock = pair.bea.node.driver._clock
    await until(lambda: clock.now_ms() > serving.started_ms, "it to have run for a moment")
    assert (await pair.jobs.cancel(job)).phase == "cancelling"
    view = await pair.phase(job, "cancelled")
    assert (await pair.jobs.cancel(job)).phase == view.phase == "cancelled"
    (failed,) = view.failed_attempts
    assert (failed.reason, failed.provider) == ("cancelled", BEA.peer_id)
    assert view.usage_ms == failed.usage_ms > 0
    assert view.cost == failed.cost
    await until(lambda: pair.ada.node.service.status().spent == view.cost, "the cost to be counted")
    await until(
        lambda: not list(pair.bea.node_folder.context.runs.iterdir()), "the container to go"
    )


# --- refusals -----------------------------------------------------------------------------


async def test_the_same_key_is_the_same_job(pair: LocalPair) -> None:
    workload = await pair.ada.node_folder.workload()
    spec = spec_of(workload, key=b"key")
    views: list[Any] = []

    async def submit() -> None:
        views.append(await pair.jobs.submit(spec))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(submit)
    assert len({view.id for view in views}) == 1
    with pytest.raises(Conflict):
        await pair.jobs.submit(replace(spec, name="another"))
    assert (await pair.jobs.submit(spec_of(workload, key=b"other"))).id != views[0].id
    await pair.ada.crash()
    await pair.network.start(pair.ada)
    assert (await pair.jobs.submit(spec)).id == views[0].id


async def test_a_caller_that_leaves_before_the_driver_has_the_job_leaves_no_ghost(
    pair: LocalPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(await pair.ada.node_folder.workload(), key=b"key")
    with trio.CancelScope() as leaving:

        async def put(_: Input) -> trio.Event:
            leaving.cancel()
            await trio.sleep_forever()
            raise AssertionError

        monkeypatch.setattr(pair.jobs._driver, "put", put)
        await pair.jobs.submit(spec)
    assert pair.jobs._open == set()
    assert pair.ada.node_folder.blobs._pins == {}


async def test_a_job_whose_caller_left_after_it_was_given_to_the_driver_runs(
    pair: LocalPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(await pair.ada.node_folder.workload(), key=b"key")
    leave_after_put(pair, monkeypatch, leaving := trio.CancelScope())
    with leaving:
        await pair.jobs.submit(spec)
    assert leaving.cancelled_caught
    job = (await pair.jobs.submit(spec)).id
    assert [view.id for view in await pair.jobs.page(10, None)] == [job], "the key is known"
    assert pair.ada.node_folder.blobs._pins.keys() == {f"input {job}"}
    await pair.finish(job)


def leave_after_put(
    pair: LocalPair, monkeypatch: pytest.MonkeyPatch, leaving: trio.CancelScope
) -> None:
    """Let the caller that is in this scope leave as soon as the driver has its input."""
    put = pair.jobs._driver.put

    async def leave(event: Input, queue: Queue = Queue.MAIN) -> trio.Event:
        taken = await put(event, queue)
        if isinstance(event, JobSubmitted):
            leaving.cancel()
        return taken

    monkeypatch.setattr(pair.jobs._driver, "put", leave)


async def test_counts_are_right_if_the_caller_of_a_retry_leaves(
    pair: LocalPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await pair.submit()
    await pair.finish(job, 1)
    assert pair.jobs.counts() == PhaseCounts(done=1)
    with monkeypatch.context() as patched, trio.CancelScope() as leaving:
        leave_after_put(pair, patched, leaving)
        await pair.jobs.retry(job)
    assert leaving.cancelled_caught
    await pair.phase(job, "running")
    assert pair.jobs.counts() == PhaseCounts(running=1)
    view = await pair.finish(job)
    assert (view.exit_code, view.phase) == (0, "done")
    assert pair.jobs.counts() == PhaseCounts(done=1)


# --- lists ------------------------------------------------------------------------------


async def test_the_list_of_jobs_in_pages(pair: LocalPair) -> None:
    ids = [await pair.submit() for _ in range(5)]
    first = [view.id for view in await pair.jobs.page(2, None)]
    then = [view.id for view in await pair.jobs.page(10, first[-1])]
    assert first + then == ids[::-1]


# --- streams ------------------------------------------------------------------------------


async def test_events_come_as_they_happen_and_end(pair: LocalPair) -> None:
    job = await pair.submit()
    seen: list[JobEventView] = []

    async def follow() -> None:
        seen.extend(await read(pair.jobs.events(job, 0)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        nursery.start_soon(follow)
        await pair.finish(job)
    kinds = [event.kind for event in seen if event.kind != "progress"]
    way = [
        "announced", "bids", "awarded", "fetching", "starting", "running", "returning", "done",
    ]  # fmt: skip
    assert sorted(kinds) == sorted(way * 2)
    resumed = await read(pair.jobs.events(job, 6))
    assert [(event.seq, event.kind) for event in resumed] == [(7, "returning"), (8, "done")]
    assert await read(pair.jobs.events(job, 8)) == []
    assert pair.jobs._news == {}


async def test_a_job_that_has_ended_has_no_progress(pair: LocalPair) -> None:
    spec = spec_of(await pair.ada.node_folder.workload())
    job = Job(JOB, spec, 1)
    pair.jobs.saved(job)
    pair.jobs.progressed(Progress(JOB, 1, 2))
    assert JOB in pair.jobs._open
    assert pair.jobs._progress[JOB].fetched == 1
    pair.jobs.saved(replace(job, ending=Ending.DONE))
    assert (pair.jobs._open, pair.jobs._progress) == (set(), {})
    assert pair.jobs.counts().done == 1


async def test_everybody_sees_progress(pair: LocalPair) -> None:
    job = await pair.running()
    pair.jobs.progressed(Progress(JobId(bytes.fromhex(job)), 5, 10))
    for _ in range(2):
        events = pair.jobs.events(job, 6)
        with trio.fail_after(5):
            event = await anext(events)
        assert (event.kind, event.detail) == ("progress", {"fetched": 5, "total": 10})
        await events.aclose()


async def test_a_log_is_followed_to_the_end(pair: LocalPair) -> None:
    job = await pair.running()
    parts: list[bytes] = []

    async def follow() -> None:
        async for part in pair.jobs.logs(job, 0, True):
            parts.append(part)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        folder = await pair.container()
        with log_path(folder).open("ab") as file:
            file.write(b"one\n")
        await until(lambda: b"".join(parts) == b"one\n")
        with log_path(folder).open("ab") as file:
            file.write(b"two\n")
        await pair.finish(job)
    assert b"".join(parts) == b"one\ntwo\n"
    assert await read(pair.jobs.logs(job, 4, False)) == [b"two\n"]
    assert await read(pair.jobs.logs(job, 99, False)) == []


async def test_a_followed_log_begins_anew_with_another_attempt(pair: LocalPair) -> None:
    job = await pair.submit()
    path = pair.ada.node.results.log_path(JobId(bytes.fromhex(job)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"the first attempt")
    stream = pair.jobs.logs(job, 0, True)
    assert await anext(stream) == b"the first attempt"
    path.unlink()
    path.write_bytes(b"2nd")
    with trio.fail_after(5):
        assert await anext(stream) == b"2nd"
    await stream.aclose()
