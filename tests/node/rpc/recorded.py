"""A service in memory that stands in for the daemon in the tests of the API and of the CLI.

It takes jobs on and lets the test say what happens to them. Spec: specs/rpc.md#service.
"""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import trio

from node.rpc.egress_views import ReachedView
from node.rpc.explain_views import (
    ChangeView,
    ExplanationView,
    MismatchView,
    NearMissView,
    PriceOutlookView,
    StartOutlookView,
    WaitView,
)
from node.rpc.gpu_views import GpuStateView, GpusView
from node.rpc.job_views import (
    ArrayView,
    BidView,
    JobEventView,
    JobView,
    MemberView,
    OutputView,
    QueueView,
    ReceiptView,
    StepsView,
)
from node.rpc.service import Service, StoredOutput
from node.rpc.views import (
    AnsweredCallView,
    GpuView,
    OfferView,
    PaidPriceView,
    PeerView,
    PhaseCounts,
    ProviderView,
    ResourcesView,
    StatusView,
    TrafficView,
)
from node.trace_format import TracedRoundTrip, TraceEnd, TraceHeader, encode_line
from protocol.rules.query import parse
from protocol.values.errors import BlobUnavailable, Conflict, NotFound
from protocol.wire.job import JobSpec
from tests.node.rpc.recorded_images import BASE, RecordedImages
from tests.node.rpc.recorded_owner import OPEN, RecordedOwner

PEER = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
FREE = ResourcesView(cpus=4, memory_mib=8192, disk_mib=100_000, gpus=1)
GPU = GpuView("h200", "NVIDIA H200", 1, 143_771)
BUSY_GPU = GpuStateView(
    "GPU-1", "NVIDIA H200", "h200", 143_771, None, True, "", "ab" * 32, PEER, 87, 2_048, 71, 89,
    312, 700, 0,
)  # fmt: skip
TRACE = (TraceHeader("mutirao-trace", 1, "0.1.0"), TracedRoundTrip(5, 1, 31_000))
REACHED = (
    ReachedView("ab" * 32, PEER, "pypi.org", 443, "", 3, 2_000, 5_000_000, 1, 1_800_000_000_000),
    ReachedView("cd" * 32, PEER, "evil.org", 22, "port 22 is not allowed", 1, 0, 0, 1, 1),
)
ENDED = {"done", "failed", "cancelled"}

EXPLANATION = ExplanationView(
    2, 1, 0, "1 of 2 known nodes can serve this job: 1 has too little memory (…)",
    (MismatchView("memory", 1, "1 has too little memory (asked 8 GiB, most 7 GiB)"),),
    (NearMissView(PEER, "memory", "8 GiB", "7 GiB"),),
    (ChangeView("memory_mib", "7G", 1), ChangeView("region", None, 1)),
    PriceOutlookView("0.0100", "0.0150", "0.0200", "0.0100", "the lowest list price"),
    StartOutlookView(1, 0, None, "", None, None), slots=4,
)  # fmt: skip


class RecordedService(RecordedOwner, RecordedImages):
    """Jobs run when the test calls `advance`, or by `script` as soon as they are submitted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.specs: list[JobSpec] = []
        self.jobs_by_id: dict[str, JobView] = {}
        self.happened: dict[str, list[JobEventView]] = {}
        self.log: dict[str, bytes] = {}
        self.files: dict[str, list[OutputView]] = {}
        self.blobs: dict[str, bytes] = {}
        self.keys: dict[bytes, str] = {}
        self.arrays: dict[str, tuple[MemberView, ...]] = {}
        self.open_streams = 0
        self.stopped = False
        self.bug: Exception | None = None
        self.asked: tuple | None = None
        self.script = None
        self.owner_view = OPEN
        self.gpus_view = GpusView((BUSY_GPU,), "")
        self.pulls: list[str] = []
        self.changed = trio.Event()

    def as_service(self) -> Service:
        """Return what the API wants: here one object is all eight."""
        return Service(self, self, self, self, self, self, self, self)

    async def reached(self, lease: str, limit: int) -> tuple[ReachedView, ...]:
        return tuple(one for one in REACHED if one.lease.startswith(lease))[:limit]

    def gpus(self) -> GpusView:
        return self.gpus_view

    def reset(self) -> None:
        self.__init__(self.folder)

    # What a test does.

    def advance(self, job_id: str, phase: str, **changes) -> None:
        """Let a job reach a phase."""
        self.jobs_by_id[job_id] = replace(self.jobs_by_id[job_id], phase=phase, **changes)
        self._happen(job_id, phase, {"provider": PEER} if phase == "awarded" else {})

    def say(self, job_id: str, data: bytes) -> None:
        self.log[job_id] += data
        self._wake()

    def leave(self, job_id: str, path: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / digest).write_bytes(data)
        self.files[job_id].append(OutputView(path, len(data), digest))

    def finish(self, job_id: str, exit_code: int = 0) -> None:
        receipt = ReceiptView(2500, "0.000347222", "ab" * 64, "cd" * 64)
        self.advance(
            job_id, "done", exit_code=exit_code, ended_ms=1_800_000_003_000, amount="0.000347222",
            usage_ms=2500, receipt=receipt, output_digest="ee" * 32,
            steps=StepsView(500, 20, 180, 2500, 40),
        )  # fmt: skip

    def end_member(self, array_id: str, index: int, exit_code: int = 0) -> None:
        """Let a member of an array end; a negative code means that it is cancelled."""
        phase = "cancelled" if exit_code < 0 else "done"
        self.arrays[array_id] = tuple(
            replace(each, phase=phase, exit_code=exit_code, why="by the test")
            if each.index == index else each
            for each in self.arrays[array_id]
        )  # fmt: skip
        self._wake()

    def whole_run(self, job_id: str, exit_code: int = 0) -> None:
        """Let a job do everything at once."""
        self.advance(job_id, "bids", bids=(BidView(PEER, "0.5000", True),))
        self.advance(job_id, "awarded", provider=PEER, price_hour="0.5000")
        self.advance(job_id, "fetching")
        self.advance(job_id, "running")
        self.say(job_id, b"hello from the job\n")
        self.leave(job_id, "result/answer.txt", b"42\n")
        self.finish(job_id, exit_code)

    # What the API asks.

    def status(self) -> StatusView:
        if self.bug is not None:
            raise self.bug
        provider = ProviderView(
            True, False, "embedded", "no Docker Engine answers", FREE, FREE, (GPU,), 0
        )
        return StatusView(
            PEER, "0.1.0", ("/ip4/127.0.0.1/tcp/4788",), 1, 61_000, PhaseCounts(running=1),
            "1.500000000", "0.000000000", provider, "/data", {},
            TrafficView(120, 90, 30, 40, 2_500_000, 61_000),
        )  # fmt: skip

    def peers(self) -> tuple[PeerView, ...]:
        return (PeerView(PEER, "/ip4/127.0.0.1/tcp/4789", "outbound", 61_000),)

    async def bids(self, limit: int) -> tuple[AnsweredCallView, ...]:
        lost = AnsweredCallView(
            "ab" * 32,
            61_000,
            PEER,
            FREE,
            "0.0110",
            "lost",
            "another bid was lower",
            "0.0100",
            0,
            3,
            None,
        )
        refused = AnsweredCallView(
            "cd" * 32,
            60_000,
            PEER,
            FREE,
            None,
            "refused",
            "this node was busy",
            None,
            0,
            0,
            "busy",
        )
        return (lost, refused)[:limit]

    def offers(self, where: str, sort: str, limit: int | None) -> tuple[OfferView, ...]:
        parse(where)
        self.asked = (where, sort, limit)
        return (
            OfferView(
                PEER, False, 4, 8192, 100_000, (GPU,), ("embedded",), ("memory", "cpu"),
                "europe\x1b[31m", "0.0100", "0.0020", "0.5000", FREE, 7, 120_000, (BASE,),
            ),
        )  # fmt: skip

    async def prices(self) -> tuple[PaidPriceView, ...]:
        return (
            PaidPriceView(
                "h200", "", 3, "1.0000", "1.5000", "2.0000", 1_800_000_000_000,
            ),
        )  # fmt: skip

    async def trace(self, since_ms: int | None, follow_ms: int | None) -> AsyncIterator[bytes]:
        with self._open_stream():
            self.asked = (since_ms, follow_ms)
            yield b"".join(map(encode_line, TRACE))
            if follow_ms:
                yield encode_line(TraceEnd(100))[:-5]  # Cut off within a line.
                await trio.sleep(follow_ms / 1000)
            yield b"" if follow_ms else encode_line(TraceEnd(100))

    def dry_run(self, spec: JobSpec) -> ExplanationView:
        self.specs.append(spec)
        return EXPLANATION

    async def explain(self, reference: str) -> ExplanationView:
        waits = (WaitView(1_800_000_000_000, 0, "no-bids", "4 refused: busy with other jobs"),)
        return replace(EXPLANATION, job=await self.get(reference), waits=waits)

    async def submit(self, spec: JobSpec) -> JobView:
        if spec.key and spec.key in self.keys:
            known = self.jobs_by_id[self.keys[spec.key]]
            if known.command != spec.workload.command:
                raise Conflict("this key was used for another job: give another key")
            return known
        job_id = f"{len(self.jobs_by_id) + 1:032x}"[::-1]
        self.keys[spec.key] = job_id
        self.specs.append(spec)
        self.jobs_by_id[job_id] = JobView(
            job_id,
            spec.name,
            "announced",
            spec.workload.image.hex(),
            spec.workload.command,
            1_800_000_000_000,
            spec.image_name,
        )
        self.log[job_id], self.files[job_id], self.happened[job_id] = b"", [], []
        self._happen(job_id, "announced", {})
        if self.script is not None:
            self.script(job_id)
        return self.jobs_by_id[job_id]

    async def submit_array(self, specs: Sequence[JobSpec], indices: Sequence[int]) -> ArrayView:
        self.specs += specs
        array_id = f"{len(self.arrays) + 1:024x}"[::-1]
        self.arrays[array_id] = tuple(
            MemberView(index, f"{array_id}{index:08x}", "queued") for index in indices
        )
        return self._array(array_id)

    async def retry(self, reference: str) -> JobView | ArrayView:
        return await self.get(reference)

    async def members(self, reference: str, limit: int, after: int) -> tuple[MemberView, ...]:
        if reference not in self.arrays:
            raise NotFound(f"no array {reference!r}")
        return tuple(each for each in self.arrays[reference] if each.index > after)[:limit]

    def _array(self, array_id: str) -> ArrayView:
        members, spec = self.arrays[array_id], self.specs[-1]
        failed = sum(bool(each.exit_code) and each.phase == "done" for each in members)
        phases = Counter(each.phase for each in members)
        phase = "queued" if phases["queued"] else "failed" if failed else "done"
        place = QueueView(3, 20, "all are busy", None, None) if phases["queued"] else None
        return ArrayView(
            array_id, spec.name, phase, spec.workload.image.hex(), spec.workload.command,
            1_800_000_000_000, None, len(members), phases["done"] - failed, failed,
            phases["cancelled"], 0, phases["queued"], None, (), queue=place,
        )  # fmt: skip

    async def _array_events(self, array_id: str) -> AsyncIterator[JobEventView]:
        told: set[int] = set()
        while True:
            changed = self.changed  # Before it looks: what comes while it yields is not missed.
            ended = [m for m in self.arrays[array_id] if m.phase in ENDED and m.index not in told]
            told |= {each.index for each in ended}
            array = self._array(array_id)
            detail = {"array": asdict(array), "ended": [asdict(each) for each in ended]}
            yield JobEventView(len(told), 1_800_000_000_000, "members", detail)
            if len(told) == array.size:
                return
            await changed.wait()

    async def page(self, limit: int, before: str | None) -> tuple[JobView, ...]:
        newest = list(reversed(self.jobs_by_id.values()))
        start = next((n + 1 for n, job in enumerate(newest) if job.id == before), 0)
        return tuple(newest[start : start + limit])

    async def get(self, reference: str) -> JobView | ArrayView:
        if reference in self.arrays:
            return self._array(reference)
        found = [job for job in self.jobs_by_id.values() if job.id.startswith(reference)]
        if len(reference) < 6 or len(found) != 1:
            raise NotFound(f"no job {reference!r} here; see `mutirao jobs`")
        return found[0]

    async def cancel(self, reference: str) -> JobView:
        job = await self.get(reference)
        if reference in self.arrays:
            for each in self.arrays[reference]:
                if each.phase not in ENDED:
                    self.end_member(reference, each.index, -1)
        elif job.phase not in ENDED:
            self.advance(job.id, "cancelled", reason="cancelled", why="cancelled by the user")
        return await self.get(reference)

    async def events(self, reference: str, after: int) -> AsyncIterator[JobEventView]:
        with self._open_stream():
            if reference in self.arrays:
                async for event in self._array_events(reference):
                    yield event
                return
            while True:
                for event in self.happened[reference][after:]:
                    yield event
                    after = event.seq
                if self.jobs_by_id[reference].phase in ENDED:
                    return
                await self.changed.wait()

    async def logs(self, reference: str, offset: int, follow: bool) -> AsyncIterator[bytes]:
        with self._open_stream():
            while True:
                if more := self.log[reference][offset:]:
                    yield more
                    offset += len(more)
                elif not follow or self.jobs_by_id[reference].phase in ENDED:
                    return
                else:
                    await self.changed.wait()

    async def outputs(self, reference: str) -> tuple[OutputView, ...]:
        return tuple(self.files[(await self.get(reference)).id])

    async def output(self, reference: str, path: str) -> StoredOutput:
        for found in await self.outputs(reference):
            if found.path == path:
                return self._stored(found)
        raise NotFound(f"the job has no output {path!r}")

    async def stored_outputs(self, reference: str) -> tuple[StoredOutput, ...]:
        return tuple(self._stored(found) for found in await self.outputs(reference))

    def _stored(self, output: OutputView) -> StoredOutput:
        location = self.folder / output.digest
        if not location.exists():
            raise BlobUnavailable(f"output {output.path!r} is no longer stored here")
        return StoredOutput(output, location)

    def request_stop(self) -> None:
        self.stopped = True

    # How it does it.

    def _happen(self, job_id: str, kind: str, detail: dict) -> None:
        events = self.happened[job_id]
        events.append(JobEventView(len(events) + 1, 1_800_000_000_000 + len(events), kind, detail))
        self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    @contextmanager
    def _open_stream(self):
        self.open_streams += 1
        try:
            yield
        finally:
            self.open_streams -= 1
            self._wake()
