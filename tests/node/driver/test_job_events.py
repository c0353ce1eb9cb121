"""Every event has a kind, its details are JSON, and the API shows both.

Spec: specs/core.md#job-events.
"""

import json

from node.driver.job_events import KINDS, LAST, PHASES, detail_of, event_view, phase_of
from protocol.machines import events
from protocol.values.ids import digest_of
from protocol.values.reasons import Failure
from tests.node.requester.sample_events import WAY, done, rows


def test_every_event_has_a_kind_of_its_own() -> None:
    assert set(KINDS) == set(events.JobEvent.__args__)
    assert len(set(KINDS.values())) == len(KINDS)
    assert {*KINDS.values(), "waiting"} >= LAST | set(PHASES), "an earlier version wrote waiting"


def test_the_phase_is_that_of_the_last_event() -> None:
    assert phase_of(rows()) == "queued"
    assert phase_of(rows(*WAY[:5])) == phase_of(rows(*WAY[:4])) == "fetching"
    assert phase_of(rows(*WAY, done())) == "done"
    assert phase_of(rows(*WAY, events.Retrying(Failure.OUTPUTS_LOST, "gone"))) == "queued"


def test_an_event_as_the_api_shows_it() -> None:
    (row,) = rows(events.Failed(Failure.NO_BIDS, 'quotes " and ünïcode'))
    shown = event_view(row)
    assert (shown.seq, shown.kind, shown.at_ms) == (1, "failed", 1_100)
    assert (shown.detail["reason"], shown.detail["why"]) == ("no-bids", 'quotes " and ünïcode')


def test_details_are_json_for_all_events() -> None:
    for event in (*WAY, done(), events.Retrying(Failure.PROVIDER_LOST, "x")):
        assert json.loads(detail_of(event)) is not None
    assert json.loads(detail_of(done()))["outputs"] == digest_of(b"out").hex()
