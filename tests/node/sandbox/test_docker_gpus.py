"""The engine gets GPUs by CDI if it uses CDI and the machine's files name them.

Spec: specs/gpus.md#assignment.
"""

from pathlib import Path

from node.sandbox.docker_gpus import request_for, runtime_for
from tests.node.sandbox.cdi_spec import write_spec


def test_by_cdi_where_engine_and_machine_know_it(tmp_path):
    folder = str(write_spec(tmp_path, Path("/usr/lib")).parent)
    request = request_for(("GPU-a", "MIG-c"), {"CDISpecDirs": [folder]})
    assert request["Driver"] == "cdi"
    assert request["DeviceIDs"] == ["nvidia.com/gpu=GPU-a", "nvidia.com/gpu=MIG-c"]
    assert runtime_for(request) == "runc"


def test_by_the_vendors_hooks_elsewhere(tmp_path):
    folder = str(write_spec(tmp_path, Path("/usr/lib")).parent)
    for uuid, info in (("GPU-a", {}), ("GPU-a", {"CDISpecDirs": None}),
                       ("GPU-z", {"CDISpecDirs": [folder]})):  # fmt: skip
        request = request_for((uuid,), info)
        assert (request["Driver"], request["DeviceIDs"]) == ("", [uuid])
        assert request["Capabilities"] == [["gpu", "compute", "utility"]]
        assert runtime_for(request) is None


def test_a_job_without_gpus_asks_for_none():
    assert request_for((), {}) is None
    assert runtime_for(None) == "runc"
