"""What a user wants done, and what is wrong with it.

Spec: specs/execution.md#job-spec.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.values.limits import ENVELOPE_BYTES_MAX
from protocol.wire.job import (
    BlobRef,
    EnvVar,
    FileRef,
    JobSpec,
    Resources,
    Terms,
    Workload,
    faults,
    is_safe_path,
)
from protocol.wire.messages import Deploy
from tests.strategies import SIGNERS

BLOB = BlobRef(bytes(32), 1)
SPEC = JobSpec("job", Workload(bytes(32), ("true",)), Terms(1))


def spec(**workload: object) -> JobSpec:
    return replace(SPEC, workload=replace(SPEC.workload, **workload))


def test_a_plain_job_has_no_fault() -> None:
    assert faults(SPEC) == []
    assert faults(spec(inputs=(FileRef("a", BLOB, executable=True),))) == []
    assert faults(spec(inputs=(FileRef("a", BLOB, pack=True),), workdir="/in/a")) == []
    assert faults(spec(workdir="/")) == []


@pytest.mark.parametrize(
    "wrong, line",
    [
        (spec(command=()), "command: "),
        (spec(inputs=(FileRef("../a", BLOB),)), "input '../a': paths are relative"),
        (spec(inputs=(FileRef("/a", BLOB),)), "input '/a': "),
        (spec(inputs=(FileRef("a", BLOB), FileRef("a", BLOB))), "input 'a': given twice"),
        (
            spec(inputs=(FileRef("a", BLOB), FileRef("a!", BLOB), FileRef("a/b", BLOB))),
            "input 'a/b': it lies inside the input 'a'; rename one",
        ),
        (spec(workdir="in/a"), "workdir: 'in/a' is not an absolute path"),
        (spec(workdir="/in/../a"), "workdir: "),
        (spec(env=(EnvVar("A", "1"), EnvVar("A", "2"))), "env 'A': "),
        (spec(env=(EnvVar("A=B", "1"),)), "env 'A=B': "),
        (spec(checkpoint="a/../b"), "checkpoint: '/out/a/../b' has .. or empty parts"),
        (spec(checkpoint="a/"), "checkpoint: "),
        (spec(resume=(BLOB,)), "resume: the job has no checkpoint"),
        (spec(resources=Resources(gpu_class="h200")), "gpus: "),
        (spec(resources=Resources(vram_mib=1)), "gpus: "),
        (spec(resources=Resources(memory_mib=64, shm_mib=65)), "shm_mib: 65 MiB of /dev/shm"),
        (spec(command=("x" * 65_000,) * 3), "command, env and inputs take "),
    ],
)
def test_each_fault_has_one_line(wrong: JobSpec, line: str) -> None:
    (found,) = faults(wrong)
    assert found.startswith(line)


@given(st.integers(0, 1200))
def test_a_job_without_fault_fits_the_message_that_deploys_it(more: int) -> None:
    wanted = spec(command=("x" * 43_000, "x" * 43_000, "x" * (ENVELOPE_BYTES_MAX - 86_800 + more)))
    if not faults(wanted):
        deploy = SIGNERS[0].sign(Deploy(bytes(32), wanted.workload))
        assert len(deploy.envelope) <= ENVELOPE_BYTES_MAX


@pytest.mark.parametrize("path", ["a", "a/b", "...", "a b", ".a", "é"])
def test_safe_paths(path: str) -> None:
    assert is_safe_path(path)


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", ".", "..", "a/..", "./a", "a\0"])
def test_unsafe_paths(path: str) -> None:
    assert not is_safe_path(path)
