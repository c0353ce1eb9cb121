"""What a job gets, and what no job may be.

Spec: specs/sandbox.md#policy.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from node.sandbox.driver import RestoredFile
from node.sandbox.policy import environment_of, limits_of, require_runnable
from protocol.values.errors import SandboxUnavailable
from protocol.wire.job import BlobRef, EnvVar, Member
from tests.node.sandbox.conftest import launch_of, workload


def test_limits_are_the_workloads():
    limits = limits_of(launch_of(workload("x", memory_mib=100), budget_ms=7))
    assert (limits.memory_mib, limits.temp_mib, limits.shared_mib) == (100, 16, 50)
    assert (limits.disk_mib, limits.disk_in_memory) == (15, False)  # The log has the rest.
    assert (limits.timeout_ms, limits.budget_ms, limits.output_mib) == (20_000, 7, 2)


def test_shared_memory_is_as_large_as_the_job_says():
    job = workload("x", memory_mib=100)
    larger = replace(job, resources=replace(job.resources, shm_mib=80))
    assert limits_of(launch_of(larger)).shared_mib == 80


def test_the_jobs_variables_win():
    launch = launch_of(
        workload("x", env=(EnvVar("A", "job"),)), env=(("A", "image"), ("PATH", "/p"))
    )
    environment = environment_of(launch)
    assert (environment["A"], environment["PATH"], environment["HOME"]) == ("job", "/p", "/tmp")


def test_a_job_with_egress_hears_where_the_proxy_is():
    image = (("HTTPS_PROXY", "http://other:1"),)
    own = (EnvVar("no_proxy", "own"),)
    environment = environment_of(launch_of(workload("x", egress=("a.org",), env=own), env=image))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        assert environment[name] == "http://127.0.0.1:3128"
    assert (environment["no_proxy"], environment["NO_PROXY"]) == ("own", "localhost,127.0.0.1,::1")
    without = environment_of(launch_of(workload("x"), env=image))
    assert without["HTTPS_PROXY"] == "http://other:1"
    assert "http_proxy" not in without


def test_numeric_libraries_start_as_many_threads_as_the_job_has_cpus():
    job = workload("x")
    job = replace(job, resources=replace(job.resources, cpus=3))
    assert environment_of(launch_of(job))["OMP_NUM_THREADS"] == "3"
    chosen = replace(job, env=(EnvVar("OMP_NUM_THREADS", "1"),))
    assert environment_of(launch_of(chosen))["OMP_NUM_THREADS"] == "1"


def test_a_member_of_a_gang_knows_all_members_by_rank():
    members = (Member("ben", ("/ip4/192.0.2.1/tcp/1",)), Member("cleo"))
    told = environment_of(launch_of(workload("x", members=members)))["MUTIRAO_MEMBERS"]
    assert json.loads(told) == [
        {"peer": "ben", "addresses": ["/ip4/192.0.2.1/tcp/1"]}, {"peer": "cleo", "addresses": []},
    ]  # fmt: skip
    assert "MUTIRAO_MEMBERS" not in environment_of(launch_of(workload("x")))


def test_the_gpu_runtime_is_not_spoken_to_by_images():
    env = (("LD_PRELOAD", "/evil.so"), ("NVIDIA_VISIBLE_DEVICES", "all"), ("KEPT", "1"))
    own = (EnvVar("LD_LIBRARY_PATH", "/own"), EnvVar("NVIDIA_DISABLE_REQUIRE", "1"))
    names = {"LD_PRELOAD", "NVIDIA_VISIBLE_DEVICES", "KEPT", *(variable.name for variable in own)}
    without = environment_of(launch_of(workload("x", env=own), env=env))
    assert without.keys() & names == {"KEPT", "LD_LIBRARY_PATH", "NVIDIA_DISABLE_REQUIRE"}
    with_gpu = environment_of(launch_of(workload("x", env=own), env=env, gpus=("GPU-1",)))
    assert with_gpu.keys() & names == {"KEPT", "NVIDIA_VISIBLE_DEVICES"}


def test_a_job_knows_its_gpus_by_uuid_and_by_index():
    env = environment_of(launch_of(workload("x"), env=CUDA_ALL, gpus=("GPU-1", "MIG-2")))
    assert env["NVIDIA_VISIBLE_DEVICES"] == "GPU-1,MIG-2"
    assert env["CUDA_VISIBLE_DEVICES"] == "0,1"  # The image's word does not count, the job's does.
    fewer = workload("x", env=(EnvVar("CUDA_VISIBLE_DEVICES", "1"),))
    assert environment_of(launch_of(fewer, gpus=("a", "b")))["CUDA_VISIBLE_DEVICES"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in environment_of(launch_of(workload("x")))


def test_a_job_hears_where_its_checkpoint_belongs_and_whether_it_has_one():
    assert "MUTIRAO_CHECKPOINT" not in environment_of(launch_of(workload("x")))
    first = environment_of(launch_of(workload("x", checkpoint="a/b")))
    assert first["MUTIRAO_CHECKPOINT"] == "/out/a/b"
    assert "MUTIRAO_RESUME" not in first
    lie = (EnvVar("MUTIRAO_RESUME", "0"),)
    job = workload("x", checkpoint="a/b", resume=(BlobRef(bytes(32), 1),), env=lie)
    assert environment_of(launch_of(job))["MUTIRAO_RESUME"] == "1"


CUDA_ALL = (("CUDA_VISIBLE_DEVICES", "7"),)


@pytest.mark.parametrize(
    "launch",
    [
        launch_of(workload()),
        launch_of(workload("")),
        launch_of(workload("x", "a\0--bind\0/\0/host")),
        launch_of(workload("x", env=(EnvVar("A", "\0--bind"),))),
        launch_of(workload("x", env=(EnvVar("A=B", "c"),))),
        launch_of(workload("x"), env=(("", "c"),)),
        launch_of(workload("x"), working_dir="relative"),
        launch_of(workload("x", workdir="relative")),
        launch_of(workload("x", workdir="/in/../x")),
        launch_of(workload("x", workdir="/a\0--bind")),
        launch_of(workload("x"), working_dir="/a\0--bind"),
        launch_of(workload("x"), inputs=(("../out", None),)),
        launch_of(workload("x"), inputs=(("/etc", None),)),
        launch_of(workload("x"), inputs=(("a", None), ("a", None))),
        launch_of(workload("x"), restored=(RestoredFile("../x", Path("/a")),)),
        launch_of(workload("x"), restored=(RestoredFile("x", Path("/a")),) * 2),
        launch_of(workload("x"), name="mutirao-/../x"),
        launch_of(workload("x"), name="other"),
        launch_of(workload("x"), image=""),
    ],
)
def test_what_could_mislead_a_program_is_refused(launch):
    with pytest.raises(SandboxUnavailable):
        require_runnable(launch)


def test_an_honest_launch_may_run():
    require_runnable(launch_of(workload("x", "--bind", "/", "/"), inputs=(("a/b", None),)))
