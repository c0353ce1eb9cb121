"""What may travel as a checkpoint.

Spec: specs/checkpoints.md#while-it-runs. How one is fetched, the tests of both sides show.
"""

from dataclasses import replace

import pytest

from node.data.checkpoints import checkpoint_fault
from protocol.values.ids import digest_of
from protocol.wire.job import NO_LOG, BlobRef, FileRef, Outputs, Resources, Workload

WORKLOAD = Workload(
    digest_of(b"image"), ("true",), resources=Resources(memory_mib=16), output_mib=64,
    checkpoint="state/now",
)  # fmt: skip


def outputs(*paths: str, size: int = 1) -> Outputs:
    files = tuple(FileRef(path, BlobRef(digest_of(path.encode()), size)) for path in paths)
    return Outputs(files, NO_LOG)


@pytest.mark.parametrize("paths", [(), ("state/now",), ("state/now/a", "state/now/b/c")])
def test_files_at_or_below_the_path(paths: tuple[str, ...]) -> None:
    assert checkpoint_fault(outputs(*paths), WORKLOAD) == ""


@pytest.mark.parametrize(
    "paths", [("state",), ("state/nowhere",), ("state/now/a", "x"), ("state/now/../../x",)]
)
def test_files_elsewhere(paths: tuple[str, ...]) -> None:
    assert checkpoint_fault(outputs(*paths), WORKLOAD)


def test_more_than_the_memory_of_the_job_or_its_outputs() -> None:
    large = outputs("state/now", size=17 << 20)
    assert checkpoint_fault(large, WORKLOAD) == ""  # It is on disk.
    assert "memory" in checkpoint_fault(large, replace(WORKLOAD, disk_in_memory=True))
    more = replace(WORKLOAD, resources=Resources(memory_mib=64), output_mib=16)
    assert "16 MiB were agreed" in checkpoint_fault(large, more)


def test_it_has_no_log() -> None:
    logged = replace(outputs("state/now"), log=BlobRef(digest_of(b"log"), 3))
    assert checkpoint_fault(logged, WORKLOAD) == "it has a log"
    bundled = replace(outputs(), bundle=(NO_LOG,))
    assert checkpoint_fault(bundled, WORKLOAD) == "it has a bundle"
