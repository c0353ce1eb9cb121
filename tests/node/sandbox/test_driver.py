"""The places in a run folder that everybody may know.

Spec: specs/sandbox.md#drivers.
"""

from pathlib import Path

from node.sandbox.driver import log_path, outputs_path
from node.sandbox.runner import records


def test_paths_are_those_that_the_runner_writes():
    folder = Path("/runs/1")
    assert log_path(folder) == folder / records.LOG
    assert outputs_path(folder) == folder / records.OUTPUTS
