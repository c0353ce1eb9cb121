"""Places in the queue in words. Spec: specs/rpc.md#views."""

import time

import pytest

from node.cli.places import place_in_words

PLACE = {"place": 3, "jobs": 20, "why": "4 nodes are busy", "retry_ms": None, "until_ms": 0}


@pytest.mark.parametrize(
    "change,said,words",
    [
        ({}, None, "3 of 20: 4 nodes are busy"),
        ({}, "4 nodes are busy", "3 of 20"),
        ({"why": ""}, None, "3 of 20"),
        ({"retry_ms": 0}, None, "3 of 20: 4 nodes are busy; calls again in 0 ms"),
    ],
)
def test_words(change, said, words):
    assert place_in_words(PLACE | change, said) == words


def test_the_time_until_the_next_call(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_000.0)
    assert place_in_words(PLACE | {"retry_ms": 1_040_000}).endswith("; calls again in 40.0 s")
