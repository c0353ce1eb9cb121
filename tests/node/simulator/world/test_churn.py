"""When nodes come and go: Weibull sessions in equilibrium, or those of a trace.

Spec: specs/simulation-world.md#churn.
"""

import math
import os
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.simulator.world.churn import Churn, PresenceChange, Steady, Trace, Weibull
from node.simulator.world.quantities import Duration
from protocol.values.errors import InvalidRequest

NODES = 4_000


def first_changes(model: Churn, number: int, seed: int, count: int = 20) -> list[PresenceChange]:
    return list(islice(model.changes(number, seed), count))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_nobody_goes() -> None:
    assert first_changes(Steady(), 3, 1) == []


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 2**63), st.sampled_from([0.3, 0.5, 1.0, 3.0]))
def test_a_node_goes_and_comes_in_turn_and_its_times_repeat(
    number: int, seed: int, shape: float
) -> None:
    changes = first_changes(Weibull(shape=shape), number, seed)
    assert [change.online for change in changes] == [False, True] * 10
    assert all(change.after_ms >= 1 for change in changes)
    assert changes == first_changes(Weibull(shape=shape), number, seed)
    assert changes != first_changes(Weibull(shape=shape), number + 1, seed)


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0])
def test_sessions_have_the_weibull_distribution(shape: float) -> None:
    model = Weibull(shape=shape, session=Duration(100_000), away=Duration(50_000))
    drawn = [first_changes(model, number, 1, 4) for number in range(NODES)]
    away, sessions = ([each[place].after_ms for each in drawn] for place in (1, 2))
    assert abs(mean(away) - 50_000) < 3_000
    assert abs(sum(each < 100_000 for each in sessions) / NODES - (1 - 1 / math.e)) < 0.03
    assert abs(mean(sessions) / (100_000 * math.gamma(1 + 1 / shape)) - 1) < 0.15


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0])
def test_the_run_begins_in_equilibrium(shape: float) -> None:
    """What is left of the first session is less than x with the chance that renewal theory says.

    That is the integral of the sessions' survival function up to x, over their mean: the more
    uneven sessions are, the longer is the one that is found under way.
    """
    scale = 100_000
    model = Weibull(shape=shape, session=Duration(scale))
    left = [first_changes(model, number, 2, 1)[0].after_ms for number in range(NODES)]
    average = scale * math.gamma(1 + 1 / shape)
    for bound in (scale // 20, scale // 2, 2 * scale):
        step = bound / 1_000
        survival = [math.exp(-(((place + 0.5) * step / scale) ** shape)) for place in range(1_000)]
        expected = sum(survival) * step / average
        assert abs(sum(each < bound for each in left) / NODES - expected) < 0.03


def test_times_of_zero_are_times() -> None:
    model = Weibull(session=Duration(0), away=Duration(0))
    assert all(change.after_ms >= 1 for change in first_changes(model, 1, 1))


def written(folder: Path, text: str) -> Trace:
    path = folder / "trace.csv"
    path.write_text(text)
    return Trace(path)


def test_a_trace_is_told_node_by_node(tmp_path: Path) -> None:
    model = written(tmp_path, "5,100,0\n6,150,0\n5,400,1\n5,400,0\n6,150,1\n")
    assert first_changes(model, 5, 1) == [
        PresenceChange(100, False),
        PresenceChange(300, True),
        PresenceChange(0, False),
    ]
    assert first_changes(model, 6, 1) == [PresenceChange(150, False), PresenceChange(0, True)]
    assert first_changes(model, 7, 1) == []


def test_a_node_that_is_there_does_not_come_again(tmp_path: Path) -> None:
    model = written(tmp_path, "5,100,1\n5,200,0\n5,250,0\n5,300,1\n")
    assert first_changes(model, 5, 1) == [PresenceChange(200, False), PresenceChange(100, True)]


def test_the_file_is_read_once_for_all_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = written(tmp_path, "5,100,0\n")
    reads = []
    read_text = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path: reads.append(path) or read_text(path))
    for number in range(50):
        first_changes(model, number, 1)
    assert reads == [model.file]


def test_a_file_that_was_changed_is_read_again(tmp_path: Path) -> None:
    model = written(tmp_path, "5,100,0\n")
    assert first_changes(model, 5, 1) == [PresenceChange(100, False)]
    model.file.write_text("5,300,0\n")
    os.utime(model.file, ns=(1, 1))
    assert first_changes(model, 5, 1) == [PresenceChange(300, False)]


@pytest.mark.parametrize(
    "text, why",
    [
        ("5,100,0\n5,late,1\n", "line 2: node, milliseconds, 0 or 1"),
        ("5,100\n", "line 1: node, milliseconds"),
        ("\n", "line 1: node, milliseconds"),
        ("5,100,0\n5,99,1\n", "line 2: times of a node only grow"),
        ("5,-1,0\n", "line 1: times of a node only grow"),
        ("5,100,2\n", "line 1: times of a node only grow, and the last is 0 or 1"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        first_changes(written(tmp_path, text), 1, 1)


def test_a_trace_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        first_changes(Trace(tmp_path / "none.csv"), 1, 1)
