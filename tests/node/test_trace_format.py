"""Lines of traces are read as they were written, and what is wrong with one is said.

Spec: specs/trace.md#lines.
"""

import json

import pytest

from node.trace_format import (
    FORMAT,
    LINES,
    VERSION,
    TracedAnswer,
    TracedBid,
    TracedEvent,
    TracedGpus,
    TracedJob,
    TracedOffer,
    TracedRefusal,
    TracedRoundTrip,
    TraceEnd,
    TraceHeader,
    UnreadableLine,
    decode_line,
    encode_line,
    require_version,
)

SAMPLES = [
    TraceHeader(FORMAT, VERSION, "0.1.0"),
    TracedOffer(5, 2, 8, 1024, 9, 100, 0, 7, (TracedGpus("a100", 4, 81_920),), 1, (1, 3)),
    TracedOffer(5, 0, 8, 1024, 9, 100, 0, 7),
    TracedRoundTrip(9, 2, 31_000),
    TracedJob(10, 1, 1, 30, 4, 1, 64, 1024, 1000, 0, 2, gpus=1, gpu_class="a100", gang=3, nodes=2),
    TracedEvent(11, 1, "bids", bids=(TracedBid(2, 90, eligible=True),), unopened=0,
                refusals=(TracedRefusal(3, "busy"),)),
    TracedEvent(12, 1, "done", exit_code=0, usage_ms=5, amount=1, reason="exited"),
    TracedAnswer(13, 4, 1, 64, 10, 0, "lost", 90, 80, 3),
    TraceEnd(99),
]  # fmt: skip


@pytest.mark.parametrize("line", SAMPLES, ids=lambda line: line.kind)
def test_a_line_is_read_as_it_was_written(line):
    written = encode_line(line)
    assert written.endswith(b"}\n")
    assert written.count(b"\n") == 1
    assert decode_line(written) == line


def test_all_kinds_have_a_sample():
    assert {type(line) for line in SAMPLES} == set(LINES.values())


def test_what_is_absent_is_not_written():
    assert json.loads(encode_line(TracedEvent(1, 2, "running", provider=3))) == {
        "kind": "event", "at_ms": 1, "job": 2, "event": "running", "provider": 3,
    }  # fmt: skip


def test_a_field_of_a_later_program_is_ignored():
    line = '{"kind": "end", "at_ms": 3, "more": [1]}'
    assert decode_line(line) == TraceEnd(3)


@pytest.mark.parametrize("text, why", [
    ("", "it is no JSON"), ('{"kind":', "it is no JSON"), ("[]", "`kind` should be one of header"),
    ('{"kind": "and"}', "`kind` should be one of"), ('{"kind": ["end"]}', "`kind` should be"),
    ('{"kind": "end"}', "`at_ms` is missing"),
    ('{"kind": "end", "at_ms": "3"}', "`at_ms` should be a whole number"),
    ('{"kind": "end", "at_ms": true}', "`at_ms` should be a whole number"),
    ('{"kind": "event", "at_ms": 3, "job": 1, "event": 7}', "`event` should be a text"),
    ('{"kind": "event", "at_ms": 3, "job": 1, "event": "bids", "bids": 3}', "`bids` should be a l"),
    ('{"kind": "event", "at_ms": 3, "job": 1, "event": "bids", "bids": [3]}', "should be an obj"),
    ('{"kind": "event", "at_ms": 3, "job": 1, "event": "bids", "bids": [{"peer": 1}]}', "`ask`"),
    ('{"kind": "job", "nodes": 1.5}', "`at_ms` is missing"),
])  # fmt: skip
def test_a_line_that_cannot_be_read_says_why(text, why):
    with pytest.raises(UnreadableLine, match=why):
        decode_line(text)


def test_a_trace_of_another_version_or_none_is_refused():
    require_version(TraceHeader(FORMAT, VERSION, "0.1.0"))
    with pytest.raises(UnreadableLine, match="of version 7, and this program reads version 1"):
        require_version(TraceHeader(FORMAT, 7, "9.9"))
    for other in (TraceHeader("song", VERSION, "0.1.0"), TraceEnd(3)):
        with pytest.raises(UnreadableLine, match="does not begin with the header"):
            require_version(other)
