"""Requests for a log have one size and come back as they went.

Spec: specs/execution.md#log-protocol.
"""

import pytest

from node.data.log_protocol import REQUEST_BYTES, parse_request, request_of
from protocol.values.ids import LeaseId

LEASE = LeaseId(b"L" * 32)


@pytest.mark.parametrize("offset", [0, 1, 2**32, 2**64 - 1])
def test_a_request_comes_back_as_it_went(offset: int) -> None:
    data = request_of(LEASE, offset)
    assert len(data) == REQUEST_BYTES
    assert parse_request(data) == (LEASE, offset)


def test_a_request_as_the_specification_writes_it() -> None:
    assert request_of(LEASE, 258) == b"L" * 32 + b"\0\0\0\0\0\0\x01\x02"
