"""From JSON to a job spec. Spec: specs/rpc.md#job-request."""

import re

import pytest
from pydantic import ValidationError

from node.rpc.requests import (
    JobImage,
    JobRequest,
    array_of_text,
    array_specs_of,
    digest_of_hex,
    job_spec_of,
)
from protocol.values.errors import InvalidRequest
from protocol.wire.job import QUICK, VICKREY, BlobRef, EnvVar, FileRef, Resources, Workload

IMAGE = "ab" * 32
LEAST = {"image": "base", "command": ["true"], "max_price": "0.5"}


def spec_of(key: str = "", **more):
    return job_spec_of(JobRequest(**(LEAST | more)), JobImage(IMAGE), key)


def test_what_is_left_out_has_the_protocols_default():
    spec = spec_of()
    assert spec.workload == Workload(digest_of_hex(IMAGE), ("true",), output_mib=1024 - 16)
    assert (spec.terms.rate_max, spec.terms.profile, spec.terms.retries) == (138_888, VICKREY, 2)
    assert spec.key == b""


def test_everything_arrives():
    spec = spec_of(
        key="k", name="n", env={"A": "1"}, cpus=2, memory_mib=64, disk_mib=9, gpus=1,
        disk_in_memory=True,
        gpu_class="h200", vram_mib=7, timeout_ms=5000, output_mib=3, log_mib=4, processes=5,
        profile="quick", region="europe", retries=0, queue_ms=0, priority=-3,
        checkpoint="/out/state/now", checkpoint_ms=5_000,
        drivers=["docker"], hard_limits=True, where="price<2", allow_net=["PyPI", "a.org"],
        inputs=[
            {"path": "d/a", "digest": f"sha256:{'cd' * 32}", "size": 3},
            {"path": "b", "digest": "cd" * 32, "size": 3, "executable": True},
            {"path": "c", "digest": "cd" * 32, "size": 3, "pack": True},
        ],
        workdir="/in/c",
    )  # fmt: skip
    work, terms = spec.workload, spec.terms
    assert work.resources == Resources(2, 64, 9, 1, "h200", 7)
    assert (work.timeout_ms, work.output_mib, work.log_mib, work.processes) == (5000, 3, 4, 5)
    assert (work.checkpoint, work.checkpoint_ms) == ("state/now", 5_000)
    assert work.disk_in_memory
    assert work.egress == ("pypi.org", "files.pythonhosted.org", "a.org")
    assert work.env == (EnvVar("A", "1"),)
    blob = BlobRef(digest_of_hex("cd" * 32), 3)
    assert work.inputs == (
        FileRef("d/a", blob), FileRef("b", blob, executable=True), FileRef("c", blob, pack=True),
    )  # fmt: skip
    assert work.workdir == "/in/c"
    assert (terms.profile, terms.region, terms.retries) == (QUICK, "europe", 0)
    assert (terms.hard_limits, terms.where) == (True, "price<2")
    assert (terms.queue_ms, terms.priority, terms.hard_limits) == (0, -3, True)
    assert (terms.drivers, spec.key, spec.name) == (("docker",), b"k", "n")


@pytest.mark.parametrize(
    "more,output_mib,log_mib",
    [
        ({"disk_mib": 40_000}, 39_984, 16),
        ({"disk_mib": 8}, 6, 2),
        ({"disk_mib": 8, "log_mib": 4}, 4, 4),
        ({"disk_mib": 2**30}, 2**20, 16),
        ({"disk_in_memory": True}, 256, 16),
        ({"disk_in_memory": True, "disk_mib": 8}, 4, 2),
    ],
)
def test_what_the_log_leaves_of_the_disk_may_be_fetched(more, output_mib, log_mib):
    workload = spec_of(**more).workload
    assert (workload.output_mib, workload.log_mib) == (output_mib, log_mib)


@pytest.mark.parametrize(
    "more,why",
    [
        ({"command": []}, "needs a command"),
        ({"max_price": "0"}, "max_price: a job that pays nothing"),
        ({"cap_percent": 99}, "cap_percent"),
        ({"max_price": "cheap"}, "max_price: not a price"),
        ({"max_price": "NaN"}, "max_price: "),
        ({"max_price": "9e999999"}, "max_price: not a price"),
        ({"cpus": 0}, "cpus: expected an integer from 1"),
        ({"timeout_ms": 1}, "timeout_ms: expected"),
        ({"vram_mib": 5}, "no GPU"),
        ({"allow_net": ["any", "a.org"]}, "^allow_net: any stands alone"),
        ({"allow_net": ["https://a.org"]}, "^allow_net: 'https://a.org' is no name; give pypi.org"),
        ({"allow_net": ["x.org"] * 3 + [f"{n}.org" for n in range(16)]}, "egress: expected"),
        ({"checkpoint": "/tmp/x"}, "^checkpoint: '/tmp/x' is not below /out"),
        ({"checkpoint": "/out"}, "^checkpoint: '/out' is not below /out"),
        ({"checkpoint": "/out/../x"}, "^checkpoint: '/out/../x' has .. or empty parts"),
        ({"checkpoint_ms": 4_999}, "checkpoint_ms: expected an integer from 5000 to 86400000"),
        ({"inputs": [{"path": "../x", "digest": IMAGE, "size": 1}]}, "without .."),
        ({"env": {"A": "\0"}}, "control characters"),
        ({"name": "x" * 129}, "name: expected text"),
        (
            {"isolation": "jail"},
            "^isolation: 'jail' is none of container, gvisor, microvm",
        ),
        ({"isolation": "vm", "where": "isolation<vm"}, "^where: isolation>=vm contradicts"),
        ({"where": "vram>80G vram<40G"}, "^where: vram<40G contradicts vram>80G$"),
        ({"where": "gpus=0", "gpus": 1}, "^where: gpus=0 contradicts the job's gpus>=1$"),
        ({"where": "vrma=1"}, "^character 1: there is no field 'vrma'; did you mean 'vram'?"),
        ({"where": "cpus=1 settled"}, "^character 8: other nodes do not know settled"),
        ({"where": "c" * 257}, "where: expected text of 0 to 256 bytes"),
    ],
)
def test_what_the_protocol_forbids_is_said_in_a_line(more, why):
    with pytest.raises(InvalidRequest, match=why) as caught:
        spec_of(**more)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "more",
    [{"cpu": 1}, {"cpus": "2"}, {"cpus": True}, {"cpus": 1.0}, {"profile": "x"}, {"command": "ls"},
     {"inputs": [{"path": "a", "digest": "zz", "size": 1}]}],
)  # fmt: skip
def test_json_of_another_form_is_refused(more):
    with pytest.raises(ValidationError):
        JobRequest(**(LEAST | more))


@pytest.mark.parametrize(
    "text,indices",
    [("0-3", [0, 1, 2, 3]), ("0-8:4", [0, 4, 8]), ("7, 1,1-2", [1, 2, 7]), ("5", [5])],
)
def test_indices(text, indices):
    assert array_of_text(text) == (indices, 0)


@pytest.mark.parametrize(
    "text,why",
    [
        ("0-9999999", "10000000 jobs; an array has at most 10000"),
        ("3-1", "'3-1' is not a range"),
        ("", "'' is not a range"),
        ("0-9:0", "is not a range"),
        ("0-9999999999", "is not a range"),
    ],
)
def test_indices_that_are_none(text, why):
    with pytest.raises(InvalidRequest, match=re.escape(why)):
        array_of_text(text)


def test_how_many_of_an_array_may_run_at_once():
    assert array_of_text("0-2%2") == ([0, 1, 2], 2)
    assert array_of_text("0-2%99999") == ([0, 1, 2], 10_000)
    request = JobRequest(**(LEAST | {"array": "0-2%2"}))
    specs, _ = array_specs_of([request], {"base": JobImage(IMAGE)}, "")
    assert [spec.max_running for spec in specs] == [2, 2, 2]
    for wrong in ("0-2%0", "0-2%", "0-2%x", "0-2%-1", "0-2%2%2"):
        with pytest.raises(InvalidRequest, match="is no number of jobs to run at once"):
            array_of_text(wrong)


def test_every_job_of_a_list_is_checked():
    fine, wrong = JobRequest(**LEAST), JobRequest(**(LEAST | {"command": []}))
    specs, indices = array_specs_of([fine, fine], {"base": JobImage(IMAGE)}, "k")
    assert ([spec.key for spec in specs], indices) == ([b"k"] * 2, [0, 1])
    with pytest.raises(InvalidRequest, match=r"job 1: command.*; job 2: command"):
        array_specs_of([fine, wrong, wrong], {"base": JobImage(IMAGE)}, "")
    nested = JobRequest(**(LEAST | {"array": "0-1"}))
    with pytest.raises(InvalidRequest, match="neither an array nor a gang"):
        array_specs_of([fine, nested], {"base": JobImage(IMAGE)}, "")
    nested = JobRequest(**(LEAST | {"nodes": 2}))
    with pytest.raises(InvalidRequest, match="neither an array nor a gang"):
        array_specs_of([fine, nested], {"base": JobImage(IMAGE)}, "")
    with pytest.raises(InvalidRequest, match="0 jobs"):
        array_specs_of([], {}, "")


def test_a_gang_has_a_member_for_each_node():
    gang = JobRequest(**(LEAST | {"nodes": 3}))
    specs, ranks = array_specs_of([gang], {"base": JobImage(IMAGE)}, "k")
    assert ([spec.terms.nodes for spec in specs], ranks) == ([3, 3, 3], [0, 1, 2])
    assert not JobRequest(**(LEAST | {"nodes": 1})).is_many


@pytest.mark.parametrize(
    "more, why",
    [({"nodes": 0}, "nodes"), ({"nodes": 65}, "nodes"), ({"nodes": 10**7}, "nodes"),
     ({"nodes": 2, "array": "0-3"}, "an array of gangs does not exist"),
     ({"same_region": True}, "same_region: only a gang"),
     ({"max_round_trip_us": 20_000}, "max_round_trip_us: a job alone"),
     ({"max_round_trip_us": 60_000_001, "nodes": 2}, "max_round_trip_us: expected an integer"),
     ({"spread_regions": True}, "spread_regions: only a gang"),
     ({"spread_regions": True, "nodes": 2, "same_region": True}, "it contradicts same_region"),
     ({"spread_regions": True, "nodes": 2, "region": "eu"}, "it contradicts region")],
)  # fmt: skip
def test_gangs_that_are_none(more, why):
    request = JobRequest(**(LEAST | more))
    with pytest.raises(InvalidRequest, match=why):
        if request.is_many:
            array_specs_of([request], {"base": JobImage(IMAGE)}, "")
        else:
            job_spec_of(request, JobImage(IMAGE), "")


def test_isolation_is_a_condition_beside_the_query():
    assert spec_of(isolation="gvisor").terms.where == "isolation>=gvisor"
    both = spec_of(isolation="microvm", where="price<2 or region=europe")
    assert both.terms.where == "(price<2 or region=europe) isolation>=microvm"
