"""The core's cost, with much to know: many records, open jobs, leases, and a long history.

Why: what a step costs must not grow with what a node knows. Each figure is measured on a core that
knows next to nothing and on one that knows very much; the ratio says whether it grows. The floor is
one signature, which a submission cannot do without.
Spec: specs/overview.md#bench.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from protocol.core.core import Core
from protocol.machines.context import Context, Policy
from protocol.machines.inputs import DeadlineReached, JobSubmitted, RecordReceived
from protocol.machines.provider import lease
from protocol.rules.capacity import Capacity, Reservation
from protocol.values.ids import CallId, ContentId, JobId, LeaseId, PeerId
from protocol.values.limits import RECORD_TTL_MS
from protocol.wire.envelope import Signed, Signer
from protocol.wire.job import JobSpec, Resources, Terms, Workload
from protocol.wire.messages import CapabilityRecord, Prices

NOW_MS: Final = 1_800_000_000_000
NETWORK: Final = "bench"
LINES: Final = {
    "deadline": "a deadline at which nothing is due",
    "next_deadline": "to find the next deadline",
    "submit": "to submit a job, up to its call",
    "record": "one more capability record",
    "call": "to answer a call for bids",
}


def bench_core(records: int, jobs: int, leases: int, rounds: int) -> dict[str, Any]:
    """Return figures in milliseconds of a small and of a large core, and the floor."""
    signer = Signer(bytes(32), NETWORK)
    small, large = _Known(signer, 16, 4, 2), _Known(signer, records, jobs, leases)
    figures: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        for size, known in (("small", small), ("large", large)):
            for name, action in known.actions(number).items():
                took_ms = _time(action)
                figures.setdefault(name, {}).setdefault(size, []).append(took_ms)
    message = large.record_of(0, 1).message
    floor = [_time(lambda: signer.sign(message)) for _ in range(rounds)]
    return {
        "records": records, "open_jobs": jobs, "leases": leases, "rounds": rounds,
        "load": os.getloadavg()[0], "floor_ms": {"signature": _spread(floor)},
        "core_ms": {
            name: {size: _spread(times) for size, times in sizes.items()}
            for name, sizes in figures.items()
        },
    }  # fmt: skip


class _Known:
    """A core that knows so many records, open jobs and leases of others."""

    def __init__(self, signer: Signer, records: int, jobs: int, leases: int) -> None:
        capacity = Capacity(leases, 1024 * leases, 4096 * leases)
        policy = Policy(
            providing=True, capacity=capacity, prices=Prices(1, 1, 1), driver="embedded",
            jobs_max=2 * leases,
        )  # fmt: skip
        self.core = Core(signer, policy)
        self.fresh = records
        self.submitted = 0
        for number in range(records):
            self.core.handle(self.record_received(number, 1), NOW_MS)
        for _ in range(jobs):
            self.submit()
        self.core.provider.recover(
            (self._lease(number) for number in range(leases)), Context(NOW_MS, signer, policy)
        )

    def actions(self, number: int) -> dict[str, Callable[[], object]]:
        """Return one round of what is measured. Time stands still, so that nothing is ever due."""
        core = self.core
        fresh = self.record_received(self.fresh + number, 1)
        call = self._call(number)
        return {
            "deadline": lambda: core.handle(DeadlineReached(), NOW_MS),
            "next_deadline": core.next_deadline_ms,
            "submit": self.submit,
            "record": lambda: core.handle(fresh, NOW_MS),
            "call": lambda: core.handle(call, NOW_MS),
        }

    def submit(self) -> None:
        self.submitted += 1
        job_id = JobId(self.submitted.to_bytes(16))
        # No two jobs ask for the same, so that nothing is remembered from the last.
        workload = Workload(
            bytes(32), ("true",), resources=Resources(memory_mib=16 + self.submitted)
        )
        spec = JobSpec("bench", workload, Terms(10**9))
        self.core.handle(JobSubmitted(job_id, spec), NOW_MS)

    def record_received(self, number: int, sequence: int) -> RecordReceived:
        return RecordReceived(self.record_of(number, sequence), f"source {number % 50}")

    def record_of(self, number: int, sequence: int) -> Signed[CapabilityRecord]:
        record = CapabilityRecord(
            sequence, NOW_MS, RECORD_TTL_MS, (), True, "", 1 + number % 64, 4_096 + number,
            100_000, (), ("embedded",), Prices(1 + number % 997, 1, 1),
        )  # fmt: skip
        peer = PeerId(f"peer {number}")
        return Signed(peer, record, b"", ContentId(number.to_bytes(32)))

    def _call(self, number: int) -> Signed[Any]:
        """Return another's call, as this core makes them."""
        state = next(iter(self.core.requester.auctions.values()))
        call = replace(state.auction.call, nonce=number.to_bytes(16))  # type: ignore[union-attr]
        return Signed(
            PeerId(f"caller {number}"), call, b"", ContentId((2**200 + number).to_bytes(32))
        )

    def _lease(self, number: int) -> lease.Settling | lease.Held:
        hold = lease.Hold(
            LeaseId(number.to_bytes(32)), CallId(bytes(32)), PeerId(f"requester {number}"), 0, 1,
            60_000, Resources(), Reservation(Resources(memory_mib=16)),
        )  # fmt: skip
        return lease.Held(hold, NOW_MS + 6_000, ContentId(bytes(32)))


def _time(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1_000


def _spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median": round(statistics.median(ordered), 4),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 4),
    }
