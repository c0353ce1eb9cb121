"""A transfer's rate and remaining time. Spec: specs/rpc.md#command-line."""

import pytest

from node.cli import transfer_rate
from node.cli.transfer_rate import TransferRate, in_words

MIB = 2**20


def test_rate_and_rest_are_those_of_the_last_reports(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(transfer_rate.time, "monotonic", lambda: now[0])
    rate = TransferRate()
    assert rate.line_of(0, 100 * MIB) == "0 % of 100.0 MiB"
    now[0] = 2
    assert rate.line_of(20 * MIB, 100 * MIB) == "20 % of 100.0 MiB, 10.0 MiB/s, 8 s left"
    assert rate.line_of(100 * MIB, 100 * MIB) == "100 % of 100.0 MiB, 50.0 MiB/s"
    assert rate.line_of(0, 0) == "0 % of 0.0 MiB"  # Another provider begins anew.


@pytest.mark.parametrize(
    "seconds,words",
    [(0.1, "1 s"), (59.4, "59 s"), (125, "2 min 5 s"), (7200, "2 h 0 min"), (90000, "25 h 0 min")],
)
def test_durations(seconds, words):
    assert in_words(seconds) == words
