"""Streams: their events, their ends, their resumption. Spec: specs/rpc.md#streams."""

import trio

from node.rpc import live
from node.rpc.job_views import JobEventView
from node.rpc.live import sse_of
from protocol.values.errors import BlobUnavailable
from tests.node.rpc.conftest import read_answer, read_until
from tests.node.rpc.test_guard import wait_until


def test_one_event_has_its_number_as_id():
    event = JobEventView(3, 7, "running", {"why": "a\nb"})
    lines = sse_of(event).decode().split("\n")
    assert lines[:2] == ["id: 3", "event: running"]
    assert lines[3:] == ["", ""]


async def test_events_end_with_the_job(caller):
    job_id = await caller.submit()
    caller.service.whole_run(job_id)
    answer = await caller.ask("GET", f"/v1/jobs/{job_id}/events")
    kinds = [line[7:] for line in answer.body.decode().split("\n") if line.startswith("event: ")]
    assert kinds == ["announced", "bids", "awarded", "fetching", "running", "done", "end"]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.whole


async def test_events_come_as_they_happen_and_resume(caller):
    job_id = await caller.submit()
    stream = await caller.open("GET", f"/v1/jobs/{job_id[:6]}/events")
    await read_until(stream, b"id: 1\nevent: announced")
    caller.service.advance(job_id, "bids")
    await read_until(stream, b"id: 2\nevent: bids")
    await stream.aclose()
    resumed = await caller.open("GET", f"/v1/jobs/{job_id}/events", last_event_id="1")
    data = await read_until(resumed, b"event: bids")
    assert b"announced" not in data
    await resumed.aclose()


async def test_a_caller_that_leaves_frees_the_source_at_once(caller):
    job_id = await caller.submit()
    events = await caller.open("GET", f"/v1/jobs/{job_id}/events")
    logs = await caller.open("GET", f"/v1/jobs/{job_id}/logs?follow=1")
    await wait_until(lambda: caller.service.open_streams == 2)
    start = trio.current_time()
    await events.aclose()
    await logs.aclose()
    await wait_until(lambda: caller.service.open_streams == 0)
    assert trio.current_time() - start < 0.5


async def test_the_nodes_end_says_bye_and_cuts_the_log(caller, nursery):
    job_id = await caller.submit()
    caller.service.say(job_id, b"half")
    events = await caller.open("GET", f"/v1/jobs/{job_id}/events")
    logs = await caller.open("GET", f"/v1/jobs/{job_id}/logs?follow=1")
    await wait_until(lambda: caller.service.open_streams == 2)
    assert await caller.stop() < 1
    ended, cut = await read_answer(events), await read_answer(logs)
    assert ended.whole
    assert ended.body.endswith(live.BYE)
    assert not cut.whole
    assert cut.body == b"half"
    assert caller.service.open_streams == 0


async def test_an_idle_event_stream_beats(caller, monkeypatch):
    monkeypatch.setattr(live, "BEAT_S", 0.01)
    job_id = await caller.submit()
    stream = await caller.open("GET", f"/v1/jobs/{job_id}/events")
    await read_until(stream, b": beat\n\n")
    await stream.aclose()


async def test_a_source_that_fails_says_so(caller):
    job_id = await caller.submit()

    async def broken(*_):
        yield JobEventView(1, 0, "announced", {})
        raise BlobUnavailable("the journal is gone")

    async def broken_log(*_):
        yield b"half"
        raise BlobUnavailable("the log is gone")

    caller.service.events, caller.service.logs = broken, broken_log
    events = await caller.ask("GET", f"/v1/jobs/{job_id}/events")
    assert b'event: error\ndata: {"type":"about:blank"' in events.body
    assert b"the journal is gone" in events.body
    logs = await caller.ask("GET", f"/v1/jobs/{job_id}/logs")
    assert (logs.body, logs.whole) == (b"half", False)
