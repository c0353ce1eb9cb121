"""The values of a scenario.

Spec: specs/simulation.md#scenario.
"""

from pathlib import Path
from typing import Any

import pytest

from node.config.convert import Unfit
from node.simulator.values import read_value
from node.simulator.world.models import Parameter
from node.simulator.world.quantities import Duration, Meaning


def read(value: object, kind: Any, about: Meaning = Meaning("")) -> Any:  # noqa: B008
    return read_value(value, Parameter("it", kind, about), Path("/folder"))


@pytest.mark.parametrize("value, kind, expected", [
    (3, int, 3),
    (0.5, float, 0.5),
    (2, float, 2.0),
    ("90s", Duration, 90_000),
    ("x", str, "x"),
    (True, bool, True),
    ("times.csv", Path, Path("/folder/times.csv")),
    ("/times.csv", Path, Path("/times.csv")),
])  # fmt: skip
def test_a_value_is_read(value: object, kind: Any, expected: object) -> None:
    found = read(value, kind)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("value, kind, words", [
    ("x", int, "a whole number"),
    ("x", float, "a number"),
    (True, float, "a number"),
    ("x", Duration, "a duration"),
    (-1, float, "0 or more"),
    (11, int, "10 or less"),
    (10.5, float, "10 or less"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_would(value: object, kind: Any, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        read(value, kind, Meaning("", 0, 10))
