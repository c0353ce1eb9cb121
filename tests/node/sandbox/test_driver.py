"""A container's name, and the places in its run folder that everybody may know.

Spec: specs/sandbox.md#drivers.
"""

from pathlib import Path

from node.sandbox.driver import log_path, name_of, outputs_path
from node.sandbox.runner import records
from protocol.values.ids import LeaseId


def test_a_name_is_the_leases():
    assert name_of(LeaseId(bytes(range(32)))) == "mutirao-000102030405060708090a0b0c0d0e0f"


def test_paths_are_those_that_the_runner_writes():
    folder = Path("/runs/1")
    assert log_path(folder) == folder / records.LOG
    assert outputs_path(folder) == folder / records.OUTPUTS
