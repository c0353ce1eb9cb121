"""The route of traces. Spec: specs/rpc.md#routes."""

import pytest

from node.trace_format import TraceEnd, decode_line
from tests.node.rpc.recorded import TRACE


async def test_a_trace_is_streamed(caller):
    answer = await caller.ask("GET", "/v1/trace?since_ms=7")
    assert answer.headers["content-type"] == "application/jsonl"
    assert answer.whole
    assert list(map(decode_line, answer.body.splitlines())) == [*TRACE, TraceEnd(100)]
    assert caller.service.asked == (7, None)


@pytest.mark.parametrize("bad", ["since_ms=-1", "since_ms=x", "follow_ms=7776000001"])
async def test_what_makes_no_sense_is_refused(caller, bad):
    assert (await caller.ask("GET", f"/v1/trace?{bad}")).status == 422
