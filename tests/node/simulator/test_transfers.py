"""Transfers: they take the time of their bytes, and begin again if a side goes.

Spec: specs/simulation.md#transfers.
"""

from itertools import pairwise

import pytest

from node.simulator.engine import NEVER, TICKS_PER_MS
from node.simulator.transfers import PROGRESS_TICKS, RETRY_MS, TRIES, Transfers
from protocol.machines import effects, inputs
from protocol.values.ids import JobId, LeaseId, digest_of
from protocol.values.limits import STALL_MS
from protocol.wire.job import BlobRef, FileRef, Workload
from protocol.wire.messages import Checkpoint
from tests.node.simulator.fake_network import BYTES_PER_MS, FakeNetwork

LEASE = LeaseId(bytes(32))
JOB = JobId(bytes(16))
IMAGE = digest_of(b"image")


class Fetching:
    """Node 0 fetches from node 1."""

    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.transfers = Transfers(self.network)
        self.node, self.source = (self.network.nodes[number] for number in (0, 1))

    def prepare(self, image_ms: int, *input_ms: int) -> None:
        """Fetch an image, and inputs, that take so long."""
        files = tuple(
            FileRef(f"input {number}", BlobRef(digest_of(b"%d" % number), each * BYTES_PER_MS))
            for number, each in enumerate(input_ms)
        )
        workload = Workload(IMAGE, ("work", "1"), inputs=files, image_bytes=image_ms * BYTES_PER_MS)
        self.transfers.prepare(self.node, effects.Prepare(LEASE, self.source.peer_id, workload))

    def fetch_outputs(self, duration_ms: int) -> None:
        outputs = BlobRef(digest_of(b"outputs"), duration_ms * BYTES_PER_MS)
        workload = Workload(IMAGE, ("work", "1"))
        self.transfers.fetch_outputs(
            self.node, effects.FetchOutputs(JOB, LEASE, self.source.peer_id, workload, outputs)
        )

    def told(self, duration_ms: int) -> list[tuple[int, inputs.Input]]:
        """Let time pass; return what the node was given in all, and when."""
        self.network.run(duration_ms)
        assert all(number == 0 for _, number, _ in self.network.given)
        return [(at_ms, event) for at_ms, _, event in self.network.given]


def test_image_and_inputs_take_their_time() -> None:
    fetching = Fetching()
    fetching.prepare(5_000, 300, 40)
    assert fetching.told(5_340) == []
    assert not fetching.node.disk.images
    assert fetching.told(9_000) == [(5_340, inputs.Prepared(LEASE))]


def test_an_image_that_is_there_is_not_fetched_again() -> None:
    fetching = Fetching()
    fetching.prepare(5_000)
    fetching.told(6_000)
    fetching.prepare(5_000, 40)
    assert fetching.told(1_000)[1:] == [(6_040, inputs.Prepared(LEASE))]


def test_a_long_transfer_is_never_silent_for_long() -> None:
    fetching = Fetching()
    fetching.prepare(3 * STALL_MS)
    *progress, (end_ms, end) = fetching.told(4 * STALL_MS)
    assert (end_ms, end) == (3 * STALL_MS, inputs.Prepared(LEASE))
    times = [0, *(at_ms for at_ms, _ in progress), end_ms]
    assert max(after - before for before, after in pairwise(times)) < STALL_MS
    for at_ms, event in progress:
        assert isinstance(event, inputs.FetchProgressed)
        assert event.fetched * 3 * STALL_MS == event.total * at_ms
    assert len(progress) == 3 * STALL_MS * TICKS_PER_MS // PROGRESS_TICKS - 1


def test_a_node_that_goes_has_nothing_of_the_image() -> None:
    fetching = Fetching()
    fetching.prepare(2 * STALL_MS)
    fetching.told(STALL_MS)
    fetching.network.go(0)
    fetching.network.come_back(0)
    before = len(fetching.told(0))
    assert len(fetching.told(3 * STALL_MS)) == before
    assert not fetching.node.disk.images


def test_a_source_that_goes_tells_no_progress_and_is_asked_again() -> None:
    fetching = Fetching()
    fetching.prepare(2 * STALL_MS)
    fetching.told(STALL_MS // 2)
    fetching.network.go(1)
    before = fetching.told(STALL_MS)
    assert all(at_ms <= STALL_MS // 2 for at_ms, _ in before)
    fetching.network.come_back(1)
    at_ms, last = fetching.told(5 * STALL_MS)[-1]
    assert last == inputs.Prepared(LEASE)
    # It notices at the end of the first, and the whole is fetched again.
    assert at_ms == 2 * STALL_MS + RETRY_MS + 2 * STALL_MS


def test_a_source_that_is_away_is_asked_for_a_while() -> None:
    fetching = Fetching()
    fetching.network.go(1)
    fetching.prepare(100)
    assert fetching.told(TRIES * RETRY_MS) == []
    assert fetching.told(1) == [
        (TRIES * RETRY_MS, inputs.PrepareFailed(LEASE, "the requester is away"))
    ]
    assert fetching.network.engine.next_tick() == NEVER


@pytest.mark.parametrize("away_ms", [0, 1, 9_000])
def test_outputs_come_when_their_provider_is_back(away_ms: int) -> None:
    fetching = Fetching()
    fetching.network.go(1)
    fetching.fetch_outputs(500)
    fetching.told(away_ms)
    fetching.network.come_back(1)
    ((at_ms, event),) = fetching.told(60_000)
    assert event == inputs.OutputsFetched(LEASE)
    assert at_ms == -(-max(away_ms, 1) // RETRY_MS) * RETRY_MS + 500


def test_outputs_may_be_lost() -> None:
    fetching = Fetching()
    fetching.network.unmade.add(1)
    fetching.fetch_outputs(500)
    ((_, event),) = fetching.told(TRIES * RETRY_MS + 1)
    assert event == inputs.OutputsLost(LEASE, "the provider is away")


@pytest.mark.parametrize("there", [True, False])
def test_a_checkpoint_is_fetched_or_lost(there: bool) -> None:
    fetching = Fetching()
    if not there:
        fetching.network.go(1)
    found = Checkpoint(LEASE, 4, BlobRef(digest_of(b"checkpoint"), 64), 300 * BYTES_PER_MS)
    fetching.transfers.fetch_checkpoint(
        fetching.node,
        effects.FetchCheckpoint(
            JOB, LEASE, fetching.source.peer_id, Workload(IMAGE, ("work", "1")), found
        ),
    )
    ((at_ms, event),) = fetching.told(TRIES * RETRY_MS + 1)
    wanted = inputs.CheckpointFetched if there else inputs.CheckpointLost
    assert event == wanted(LEASE, 4)
    assert at_ms == (300 if there else TRIES * RETRY_MS)


def test_two_leases_may_fetch_at_once() -> None:
    fetching = Fetching()
    fetching.prepare(1_000)
    fetching.prepare(1_000)
    assert [at_ms for at_ms, _ in fetching.told(5_000)] == [1_000, 1_000]
    assert fetching.node.disk.images == {IMAGE}
