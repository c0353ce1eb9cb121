"""What all tests share: how Hypothesis works here, what Ctrl-C does, and how transcripts
are recorded again.

Spec: specs/overview.md#tests.
"""

import signal

import pytest
from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "house",
    deadline=None,  # Neighbours share the machine: time says nothing of the code.
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("house")
settings.register_profile(  # For scripts/mutants: a failure is enough, nobody reads its example.
    "mutants",
    settings.get_profile("house"),
    phases=[Phase.explicit, Phase.generate],
    database=None,
)


# A shell that runs the tests in the background has Ctrl-C ignored, by them and all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="record the transcripts again")
