"""The wire table: numbers for ever, sizes that hold.

Spec: specs/messages.md#wire.
"""

from typing import get_args

import pytest

from protocol.values.limits import ENVELOPE_BYTES_MAX, GOSSIP_BYTES_MAX
from protocol.wire.codec import encode
from protocol.wire.job import WORKLOAD_BYTES_MAX
from protocol.wire.messages import (
    NUMBER_OF,
    RETIRED,
    WIRE,
    Carrier,
    Deploy,
    Message,
    Route,
)
from tests.strategies import SIGNERS, largest

ENVELOPE = 107
"""What an envelope adds to a body of more than 255 bytes."""
BOUNDED_ELSEWHERE = {
    Deploy: WORKLOAD_BYTES_MAX + 64,  # Jobs that are too large are refused at submission.
}


def test_every_message_has_one_number() -> None:
    assert {route.message for route in WIRE} == set(get_args(Message))
    numbers = [route.number for route in WIRE]
    assert numbers == sorted(set(numbers))
    assert all(0 < number < 0x80 for number in numbers)
    assert not RETIRED & set(numbers)
    assert len(NUMBER_OF) == len(WIRE)


@pytest.mark.parametrize("route", WIRE, ids=lambda route: route.message.__name__)
def test_the_largest_instance_fits(route: Route) -> None:
    body = BOUNDED_ELSEWHERE.get(route.message) or len(encode(largest(route.message)))
    assert body + ENVELOPE <= route.bytes_max <= ENVELOPE_BYTES_MAX


@pytest.mark.parametrize("route", WIRE, ids=lambda route: route.message.__name__)
def test_what_is_gossiped_is_small(route: Route) -> None:
    if route.carrier is not Carrier.STREAM:
        assert route.bytes_max <= GOSSIP_BYTES_MAX


def test_an_envelope_has_the_expected_overhead() -> None:
    large = WIRE[-2].message  # Completed: its body needs a length of two bytes.
    body = encode(largest(large))
    assert len(SIGNERS[0].sign(largest(large)).envelope) - len(body) <= ENVELOPE
