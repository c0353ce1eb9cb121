"""Errors and changes that the commands of the laboratory share.

Spec: specs/simulation.md#command-line.
"""

import pytest

from node.cli.failure import CliError
from node.cli.laboratory import in_laboratory, values_of
from protocol.values.errors import Conflict


def test_values_are_those_of_toml_and_texts_need_no_quotes():
    given = ("nodes=5", "churn.model = weibull", 'name="a=b"', "x=1.5", "y=[1, 2]", "z=")
    assert values_of(given) == {
        "nodes": 5, "churn.model": "weibull", "name": "a=b", "x": 1.5, "y": [1, 2], "z": "",
    }  # fmt: skip
    with pytest.raises(CliError, match="write KEY=VALUE"):
        values_of(("nodes",))


@pytest.mark.parametrize("raised, code, words", [
    (ModuleNotFoundError("no", name="numpy"), "lab-missing", "the simulator needs numpy"),
    (Conflict("it exists"), "conflict", "it exists"),
])  # fmt: skip
def test_errors_become_one_line(raised, code, words):
    @in_laboratory
    def command(*, error):
        raise error

    with pytest.raises(CliError, match=words) as caught:
        command(error=raised)
    assert caught.value.code == code
