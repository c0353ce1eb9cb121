"""From a draft to the JSON of a request. Spec: specs/rpc.md#job-request."""

from node.cli.draft import Draft, Uploaded, request_of
from node.rpc.requests import JobImage, JobRequest, job_spec_of

FULL = Draft(
    image="base", command=("a", "b"), env=(("K", "V"),), name="n", cpus=2, memory_mib=64,
    disk_mib=12, gpus=1, gpu_class="h200", vram_mib=6, shm_mib=32, timeout_ms=7000, output_mib=8,
    log_mib=3, processes=9, max_price="0.5", profile="quick", region="europe", retries=0,
    drivers=("docker",), allow_net=("a.org",),
    hard_limits=True, disk_in_memory=True, workdir="/in/p",
)  # fmt: skip


def test_what_is_not_given_is_not_sent():
    assert request_of(Draft("base", ("a",), max_price="1"), ()) == {
        "image": "base", "command": ["a"], "env": {}, "inputs": [], "drivers": [],
        "allow_net": [], "max_price": "1",
    }  # fmt: skip


def test_the_node_understands_all_of_it():
    request = request_of(FULL, (Uploaded("p", "ab" * 32, 3, executable=True, pack=True),))
    spec = job_spec_of(JobRequest(**request), JobImage("cd" * 32), "")
    assert spec.workload.resources.vram_mib == 6
    assert spec.workload.resources.shm_mib == 32
    (file,) = spec.workload.inputs
    assert (file.path, file.executable, file.pack) == ("p", True, True)
    assert spec.workload.workdir == "/in/p"
    assert (spec.workload.timeout_ms, spec.workload.output_mib) == (7000, 8)
    assert (spec.workload.log_mib, spec.workload.processes) == (3, 9)
    assert (spec.terms.region, spec.terms.retries, spec.terms.drivers) == ("europe", 0, ("docker",))
    assert (spec.name, spec.workload.disk_in_memory) == ("n", True)
    assert spec.workload.egress == ("a.org",)
