"""One simulated node: its disk, and how long its containers have run.

Spec: specs/simulation.md#nodes.
"""

from hypothesis import given
from hypothesis import strategies as st

from node.simulator.identities import Numbers
from node.simulator.node import Disk, SimulatedContainer, SimulatedNode
from protocol.core.core import Core, Saved
from protocol.core.jobs import Job
from protocol.machines import inputs
from protocol.machines.context import Policy
from protocol.values.ids import JobId, LeaseId, PeerId
from tests.simulated_network import job_spec

A_LEASE = LeaseId(bytes(32))


def test_a_disk_is_read_by_table_and_the_last_settled_first() -> None:
    disk, finding = Disk(), object()
    rows = [("job", b"1"), ("award", b"2"), ("provider-lease", b"3"), ("job", b"4"),
            ("requester-lease", b"5")]  # fmt: skip
    disk.saved = {row: row[1] for row in rows}
    disk.settled = [(PeerId("a"), 1), (PeerId("b"), 2)]
    disk.proven = [finding]
    assert disk.read(9) == Saved(
        (b"1", b"4"), (b"2",), (b"5",), (b"3",), 9, ((PeerId("b"), 2), (PeerId("a"), 1)), (finding,)
    )


def test_a_node_finds_its_jobs() -> None:
    signer = Numbers(0).signer(4)
    node = SimulatedNode(4, Policy(), Core(signer, Policy()))
    job = Job(JobId(bytes(16)), job_spec(), 5)
    node.disk.saved["job", job.job_id] = job
    assert node.peer_id == signer.peer_id
    assert node.job(job.job_id) is job
    assert list(node.jobs()) == [job]


@given(st.lists(st.tuples(st.integers(1, 50), st.booleans()), max_size=10))
def test_usage_is_the_time_less_pauses(times: list[tuple[int, bool]]) -> None:
    container, now_ms, ran_ms = SimulatedContainer(10**6, 10**6, 5, started_ms=7), 7, 0
    for more_ms, pauses in times:
        if pauses:
            container.paused_since_ms = now_ms
            assert container.used_ms(now_ms + more_ms) == ran_ms
            container.paused_ms += more_ms
            container.paused_since_ms = None
        else:
            ran_ms += more_ms
        now_ms += more_ms
        assert container.used_ms(now_ms) == ran_ms
    container.exited = inputs.ContainerExited(A_LEASE, 0, "exited", "", 3, None)
    assert container.used_ms(now_ms + 99) == 3
