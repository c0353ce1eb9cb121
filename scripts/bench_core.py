"""The core's cost, with much to know: many records, open jobs, leases, and a long history.

Why: what a step costs must not grow with what a node knows. Each figure is measured on a core that
knows next to nothing and on one that knows very much; the ratio says whether it grows. The floor is
one signature, which a submission cannot do without.
Spec: specs/overview.md#bench.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from node.driver.commits import commit_of
from node.storage.journal import open_journal
from protocol.core.core import Core
from protocol.core.jobs import Ending, Job
from protocol.machines.context import Context, Policy
from protocol.machines.effects import Effect, Report, Save
from protocol.machines.events import (
    Announced,
    BidsOpened,
    Done,
    Fetching,
    JobEvent,
    Returning,
    Running,
    Starting,
)
from protocol.machines.inputs import DeadlineReached, JobSubmitted, RecordReceived
from protocol.machines.provider import lease
from protocol.rules.capacity import Capacity, Reservation
from protocol.values.ids import CallId, ContentId, Digest, JobId, LeaseId, PeerId
from protocol.values.limits import RECORD_TTL_MS
from protocol.wire.envelope import KeySigner, Signed, Signer
from protocol.wire.job import JobSpec, Resources, Terms, Workload
from protocol.wire.messages import CapabilityRecord, Prices
from scripts.bench_figures import memory_mib, spread, timed_command
from scripts.devnet import devnet

NOW_MS: Final = 1_800_000_000_000
NETWORK: Final = "bench"
SMALL: Final = (16, 4, 2)
LISTINGS: Final = 20
HISTORY_STEP: Final = 1_000
TURNS: Final = 50
"""How often a step that is too short for the clock is done for one figure."""
PICKY: Final = JobSpec(
    "bench", Workload(bytes(32), ("true",), resources=Resources(32, 8_192)),
    Terms(10**9, where="disk>50G isolation>=container (price<1 or region in [eu, us])"),
)  # fmt: skip
"""A job that half of the nodes cannot serve."""
MEMORY: Final = {
    "memory_mib": "memory after the start, MiB",
    "memory_after_mib": "memory after the listings, MiB",
}
LINES: Final = {
    "deadline": "a deadline at which nothing is due",
    "next_deadline": "to find the next deadline",
    "submit": "to submit a job, up to its call",
    "record": "one more capability record",
    "call": "to answer a call for bids",
    "explain": "to explain a job: it reads every record",
}


def bench_core(sizes: tuple[int, int, int], ended: int, rounds: int) -> dict[str, Any]:
    """Return what each step costs a small and a large core, and a node with a long history.

    `sizes` are the records, open jobs and leases of the large core.
    """
    signer = KeySigner(bytes(32), NETWORK)
    cores = {"small": _Known(signer, *SMALL), "large": _Known(signer, *sizes)}
    figures: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        for size, known in cores.items():
            for name, turns in known.actions(number).items():
                figures.setdefault(name, {}).setdefault(size, []).append(_time(turns))
    message = cores["large"].record_of(0, 1).message
    floor = [_time([partial(signer.sign, message)]) for _ in range(rounds)]
    return {
        "records": sizes[0], "open_jobs": sizes[1], "leases": sizes[2], "ended_jobs": ended,
        "rounds": rounds, "load": os.getloadavg()[0], "signature_ms": spread(floor),
        "core_ms": {
            name: {size: spread(times) for size, times in by_size.items()}
            for name, by_size in figures.items()
        },
        "history": bench_history(ended),
    }  # fmt: skip


def bench_history(ended: int) -> dict[str, Any]:
    """Return what `mutirao jobs` takes, and the memory of a node, without and with ended jobs."""
    found: dict[str, Any] = {}
    with devnet("mutirao-bench-") as network:
        nodes = {"none": network.add("without"), "many": network.add("with")}
        for node in nodes.values():
            node.wait_ready()
        nodes["many"].stop()
        trio.run(_write_history, nodes["many"].data / "node.db", ended)
        nodes["many"].start()
        nodes["many"].wait_ready()
        for name, node in nodes.items():
            before_mib = memory_mib(node)
            times = [timed_command(node, "jobs", "--json")[0] for _ in range(LISTINGS)]
            found[name] = {
                "jobs_command_ms": spread(times), "memory_mib": round(before_mib, 1),
                "memory_after_mib": round(memory_mib(node), 1),
            }  # fmt: skip
    return found


async def _write_history(path: Path, ended: int) -> None:
    """Write jobs that have ended, each with the events of its life, into a node's database."""
    workload = Workload(bytes(32), ("true",))
    async with open_journal(path) as journal:
        for start in range(0, ended, HISTORY_STEP):
            effects: list[Effect] = []
            for number in range(start, min(start + HISTORY_STEP, ended)):
                spec = JobSpec("bench", workload, Terms(1), f"key {number}".encode())
                job = Job(JobId(number.to_bytes(16)), spec, NOW_MS, ending=Ending.DONE)
                effects.append(Save("job", job.job_id, job))
                effects += (Report(job.job_id, event) for event in _life_of(number))
            commit = commit_of(effects, PeerId("us"), NOW_MS)
            assert commit is not None
            await journal.commit(commit)


def _life_of(number: int) -> tuple[JobEvent, ...]:
    call_id, peer = CallId(number.to_bytes(32)), PeerId("a provider")
    return (
        Announced(call_id, 0, 3, 2), BidsOpened((), 0, ()), Fetching(peer), Starting(peer),
        Running(peer), Returning(0, 1_000),
        Done(0, "exited", "", 1_000, 1, Digest(bytes(32)), b"", b"", ""),
    )  # fmt: skip


def show_core(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    print("{records} records, {open_jobs} open jobs, {leases} leases; load {load:.1f};"
          " one signature {0[p50]} ms".format(found["signature_ms"], **found))  # fmt: skip
    print(f"\n{'ms':46}{'small':>9}{'large':>9}{'p95':>9}   times the small")
    for name, words in LINES.items():
        small, large = found["core_ms"][name]["small"], found["core_ms"][name]["large"]
        ratio = round(large["p50"] / small["p50"], 1)
        print(f"  {words:44}{small['p50']:9}{large['p50']:9}{large['p95']:9}   {ratio}")
    none, many = found["history"]["none"], found["history"]["many"]
    print(f"\n{found['ended_jobs']} jobs have ended:{'':22}{'without':>9}{'with':>9}")
    for key, words in {"jobs_command_ms": "mutirao jobs, ms"}.items():
        print(f"  {words:44}{none[key]['p50']:9}{many[key]['p50']:9}")
    for key, words in {
        "memory_mib": "MiB after the start",
        "memory_after_mib": "and after it",
    }.items():
        print(f"  {words:44}{none[key]:9}{many[key]:9}")


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

    def actions(self, round_: int) -> dict[str, list[Callable[[], object]]]:
        """Return what is done in one round. Time stands still, so that nothing is ever due."""
        core, first = self.core, self.fresh + TURNS * round_
        records = [self.record_received(first + turn, 1) for turn in range(TURNS)]
        call = self._call(round_)
        return {
            "deadline": [lambda: core.handle(DeadlineReached(), NOW_MS)] * TURNS,
            "next_deadline": [core.next_deadline_ms] * TURNS,
            "submit": [self.submit],
            "record": [partial(core.handle, record, NOW_MS) for record in records],
            "call": [lambda: core.handle(call, NOW_MS)],
            "explain": [partial(core.advise, PICKY, (), NOW_MS)],
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
        state = next(iter(self.core.requester.scheduler.auctions.states.values()))
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


def _time(turns: Sequence[Callable[[], object]]) -> float:
    """Return how long an action takes on average over its turns, in milliseconds."""
    start = time.perf_counter()
    for action in turns:
        action()
    return (time.perf_counter() - start) * 1_000 / len(turns)
