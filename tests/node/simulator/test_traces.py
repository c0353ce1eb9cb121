"""What a trace says, and what is wrong with it. Spec: specs/trace.md#replay."""

import pytest

from node.simulator.traces import read_trace
from node.trace_format import (
    TracedEvent,
    TracedJob,
    TracedOffer,
    TracedRoundTrip,
    TraceHeader,
    encode_line,
)
from protocol.values.errors import InvalidRequest
from tests.node.simulator.small_trace import EVERY_MS, HEADER, PROVIDERS, write_trace

MIB = 1024**2


def offer(at_ms, peer, *images, region=0):
    return TracedOffer(at_ms, peer, 4, 1024, 9999, 1000, 0, 0, region=region, images=images)


def job(number, at_ms, **more):
    size = {"image_bytes": 30 * MIB, "input_bytes": 0} | more
    return TracedJob(at_ms, number, 1, size.pop("image_bytes"), size.pop("input_bytes"), 1, 64,
                     1024, 9000, 0, 2, **size)  # fmt: skip


def written(path, *lines, header=HEADER, rest=b""):
    path.write_bytes(b"".join(map(encode_line, [header, *lines])) + rest)
    return read_trace(path)


def test_jobs_have_their_events(tmp_path):
    recording = read_trace(write_trace(tmp_path / "t", jobs=3))
    assert recording.providers == list(range(1, PROVIDERS + 1))
    assert recording.end_ms == 5 * EVERY_MS
    first, *_ = recording.submitted()
    (one,) = first
    assert one.outcome == "done"
    assert 0 < one.after_ms("awarded") < one.after_ms("running") < one.after_ms("done")
    assert one.after_ms("failed") is None
    assert one.usage_ms >= 1_500
    assert one.rate > 0
    assert recording.usual_work_ms() == sorted(each.usage_ms for each in recording.jobs.values())[1]


def test_a_job_of_which_little_is_known(tmp_path):
    recording = written(tmp_path / "t", offer(0, 1), job(1, 5))
    (one,) = recording.jobs.values()
    assert (one.outcome, one.usage_ms, one.rate, one.after_ms("awarded")) == ("open",) + (None,) * 3
    assert recording.usual_work_ms() == 1


def test_members_of_a_gang_are_submitted_together(tmp_path):
    lines = [job(1, 9, gang=1, nodes=2), job(2, 9, gang=1, nodes=2), job(3, 8), job(4, 9)]
    recording = written(tmp_path / "t", offer(0, 1), *lines)
    found = [tuple(each.job.job for each in gang) for gang in recording.submitted()]
    assert found == [(3,), (1, 2), (4,)]


def test_a_round_trip_is_the_median_and_else_that_of_the_others(tmp_path):
    pings = [TracedRoundTrip(0, 1, us) for us in (300, 100, 900)]
    recording = written(tmp_path / "t", offer(0, 1), offer(0, 2), *pings)
    assert (recording.round_trip_us(1), recording.round_trip_us(2)) == (300, 300)
    assert written(tmp_path / "u", offer(0, 1)).round_trip_us(1) == 0


def test_the_regions_are_counted(tmp_path):
    assert written(tmp_path / "t", offer(0, 1, region=2)).regions == 2
    assert written(tmp_path / "u", offer(0, 1), job(1, 0, region=3)).regions == 3


def test_an_image_is_there_from_the_start_if_it_was_before_it_was_needed(tmp_path):
    """Provider 1 had it; 2 has it since a job; 3 has it for an unknown reason; 4 has it not."""
    lines = [
        offer(0, 1, 1), offer(0, 2), offer(0, 3, 1), offer(0, 4), job(1, 5), job(2, 6),
        TracedEvent(10, 1, "fetching", provider=1), TracedEvent(11, 1, "starting", provider=1),
        TracedEvent(10, 2, "fetching", provider=2), TracedEvent(1_010, 2, "starting", provider=2),
        offer(2_000, 2, 1),
    ]  # fmt: skip
    recording = written(tmp_path / "t", *lines)
    assert recording.images_at_first() == {1: [1], 2: [], 3: [1], 4: []}
    assert recording.first_fetches() == [(30 * MIB, 1_000)]


def test_small_fetches_say_nothing_of_a_line(tmp_path):
    events = [
        TracedEvent(10, 1, "fetching", provider=1),
        TracedEvent(11, 1, "starting", provider=1),
    ]
    recording = written(tmp_path / "t", offer(0, 1), job(1, 5, image_bytes=100), *events)
    assert recording.first_fetches() == []


def test_the_recording_node_lends_nothing_in_a_simulation(tmp_path):
    assert written(tmp_path / "t", offer(0, 0), offer(0, 3)).providers == [3]


def test_a_line_that_is_cut_off_at_the_end_is_left_out(tmp_path):
    recording = written(tmp_path / "t", offer(0, 1), job(1, 5), rest=b'{"kind":"event","at')
    assert list(recording.jobs) == [1]


@pytest.mark.parametrize("lines, why", [
    ([TracedEvent(1, 7, "done")], "line 2: there is no job 7 before it"),
    ([], "no other node lends anything in this trace"),
    ([offer(0, 0)], "no other node lends anything in this trace"),
])  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, lines, why):
    with pytest.raises(InvalidRequest, match=why):
        written(tmp_path / "t", *lines)


@pytest.mark.parametrize("text, why", [
    (b"", "line 1: it is no JSON"), (b"\n", "line 1: it is no JSON"), (b"song", "line 1: it is no"),
    (b"\xff\xfe\x00\n", "line 1: it is no JSON"),
    (encode_line(TraceHeader("mutirao-trace", 9, "3.1")), "line 1: it is a trace of version 9"),
    (encode_line(offer(0, 1)), "line 1: it does not begin with the header"),
    (encode_line(HEADER) + b'{"kind":"job"}\n', "line 2: `at_ms` is missing"),
])  # fmt: skip
def test_what_is_no_trace_or_of_another_version_is_refused(tmp_path, text, why):
    (tmp_path / "t").write_bytes(text)
    with pytest.raises(InvalidRequest, match=why):
        read_trace(tmp_path / "t")


def test_a_trace_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="No such file"):
        read_trace(tmp_path / "none")
