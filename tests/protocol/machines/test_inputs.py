"""Inputs: a core takes each of them in any state of ignorance.

Spec: specs/core.md#inputs.
"""

from typing import get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.core.core import Core
from protocol.machines.effects import Save
from protocol.machines.inputs import (
    ArraySubmitted,
    DevicesWithheld,
    Input,
    JobSubmitted,
    PolicyChanged,
    RecordReceived,
)
from protocol.wire.envelope import Signed
from protocol.wire.messages import CapabilityRecord, Message
from tests.driven import POLICY, START_MS
from tests.simulated_network import job_spec
from tests.strategies import SIGNERS, messages, records, snapshots

PLAIN = [member for member in get_args(Input) if get_origin(member) is not Signed]


def signed_records() -> st.SearchStrategy[Signed[CapabilityRecord]]:
    return st.builds(
        lambda who, record: SIGNERS[who].sign(record), st.integers(0, 7), records(CapabilityRecord)
    )


@pytest.mark.parametrize("kind", PLAIN, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_any_unexpected_input_is_handled(kind: type, data: st.DataObject) -> None:
    core = Core(SIGNERS[0], POLICY)
    special = {PolicyChanged: st.just(PolicyChanged(POLICY)),
               DevicesWithheld: st.just(DevicesWithheld(frozenset({"GPU-1"}))),
               JobSubmitted: st.builds(JobSubmitted, st.binary(min_size=16, max_size=16),
                                       st.just(job_spec())),
               ArraySubmitted: st.just(ArraySubmitted((JobSubmitted(bytes(16), job_spec()),))),
               RecordReceived: st.builds(RecordReceived, signed_records(), st.text())}  # fmt: skip
    event = data.draw(special[kind] if kind in special else snapshots(kind))
    effects = core.handle(event, START_MS)
    saved = [effect for effect in effects if isinstance(effect, Save)]
    assert bool(saved) == (kind in {JobSubmitted, ArraySubmitted})


@given(messages(), st.integers(1, len(SIGNERS) - 1))
def test_any_unexpected_message_saves_nothing(message: Message, who: int) -> None:
    core = Core(SIGNERS[0], POLICY)
    try:
        signed = SIGNERS[who].sign(message)
    except AssertionError:  # Too large for its envelope: no honest node sends it.
        return
    effects = core.handle(signed, START_MS)
    assert not any(isinstance(effect, Save) for effect in effects)
    assert not core.requester.scheduler.auctions.states
    assert not core.requester.leases.states
    assert not core.provider.leases
