"""What a node records of its own life. Spec: specs/trace.md#recording."""

import trio

from node.service import traces
from node.trace_format import (
    OWN,
    TracedAnswer,
    TracedEvent,
    TracedJob,
    TracedOffer,
    TracedRoundTrip,
    TraceEnd,
    TraceHeader,
    TraceLine,
    decode_line,
    require_version,
)
from tests.node.fixtures import BEA
from tests.node.local_node import LocalNode, LocalPair


async def recorded(node: LocalNode, *when: int | None) -> list[TraceLine]:
    chunks = [chunk async for chunk in node.node.traces.trace(*(when or (None, None)))]
    return [decode_line(line) for line in b"".join(chunks).splitlines()]


def of(lines: list[TraceLine], kind: type) -> list:
    return [line for line in lines if type(line) is kind]


async def test_a_requester_records_its_past(pair: LocalPair) -> None:
    await pair.finish(await pair.running())
    lines = await recorded(pair.ada)
    require_version(lines[0])
    assert isinstance(lines[-1], TraceEnd)
    (job,) = of(lines, TracedJob)
    assert (job.at_ms, job.job, job.memory_mib, job.image) == (0, 1, 64, 1)
    events = of(lines, TracedEvent)
    assert [each.event for each in events] == [
        "announced", "bids", "awarded", "fetching", "starting", "running", "returning", "done",
    ]  # fmt: skip
    assert [each.at_ms for each in events] == sorted(each.at_ms for each in events)
    assert {each.peer for each in of(lines, TracedOffer)} == {1}, "it lends nothing itself"
    assert events[2].provider == 1
    assert [(each.peer, each.round_trip_us) for each in of(lines, TracedRoundTrip)] == [(1, 250)]
    assert of(lines, TracedAnswer) == []
    assert BEA.peer_id not in str(lines)


async def test_a_provider_records_the_calls_that_it_answered(pair: LocalPair) -> None:
    await pair.finish(await pair.running())
    lines = await recorded(pair.bea)
    (answer,) = of(lines, TracedAnswer)
    assert {each.peer for each in of(lines, TracedOffer)} == {OWN}
    assert (answer.result, answer.requester, answer.awards) == ("won", 1, 1)


async def test_what_was_before_is_left_out(pair: LocalPair) -> None:
    await pair.finish(await pair.running())
    since_ms = pair.ada.node.ports.clock.now_ms() + 1
    lines = await recorded(pair.ada, since_ms, None)
    assert of(lines, TracedJob) == of(lines, TracedEvent) == []
    assert len(of(lines, TracedOffer)) == 1
    assert of(await recorded(pair.bea, since_ms, None), TracedAnswer) == []


async def test_a_live_recording_begins_now_and_has_what_follows(pair: LocalPair, monkeypatch):
    monkeypatch.setattr(traces, "POLL_MS", 20)
    monkeypatch.setattr(traces, "MEASURE_MS", 100)
    await pair.finish(await pair.running())
    lines: list[TraceLine] = []
    began = trio.Event()

    async def follow() -> None:
        async for chunk in pair.ada.node.traces.trace(None, 1_500):
            lines.extend(map(decode_line, chunk.splitlines()))
            began.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await began.wait()
        await pair.finish(await pair.running())
    (job,) = of(lines, TracedJob)
    assert [each.event for each in of(lines, TracedEvent)][-1] == "done"
    assert all(each.at_ms >= job.at_ms for each in of(lines, TracedEvent))
    assert len(of(lines, TracedRoundTrip)) > 1
    assert len(of(lines, TracedOffer)) <= 3, "an offer is repeated only if it changes"
    assert (type(lines[0]), type(lines[-1])) == (TraceHeader, TraceEnd)


async def test_a_peer_that_does_not_answer_has_no_round_trip(pair: LocalPair, monkeypatch):
    async def nobody(_peer: object) -> int:
        raise traces.PeerUnreachable("away")

    monkeypatch.setattr(pair.ada.network, "round_trip_us", nobody)
    assert of(await recorded(pair.ada), TracedRoundTrip) == []


async def test_a_node_that_saw_nothing(pair: LocalPair) -> None:
    lines = await recorded(pair.ada)
    assert of(lines, TracedJob) == []
    assert lines[-1].at_ms < 5_000
