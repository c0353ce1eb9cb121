"""Turns what a node knows into lines of a trace: numbers in place of peers, images, regions, jobs.

Texts that people or other nodes wrote do not get in, but for the classes of GPUs: neither commands,
names, addresses and queries, nor reasons in words. Spec: specs/trace.md#anonymity.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from node.requester.job_view import EXIT_REASONS
from node.rpc.job_views import JobEventView
from node.trace_format import (
    OWN,
    TracedAnswer,
    TracedBid,
    TracedEvent,
    TracedGpus,
    TracedJob,
    TracedOffer,
    TracedRefusal,
)
from protocol.core.jobs import Job
from protocol.machines.answers import AnsweredCall
from protocol.values.ids import PeerId
from protocol.values.reasons import Failure, Refusal
from protocol.wire.job import PREFIX_BYTES
from protocol.wire.messages import CapabilityRecord

PLAIN = (
    "attempt", "nodes", "eligible", "rate_max", "unopened", "rate", "ask", "runner_up",
    "exit_code", "usage_ms", "amount",
)  # fmt: skip
"""What an event's detail says in numbers."""
REASONS = frozenset({*(each.value for each in Failure), *EXIT_REASONS})
"""Codes of our own: a provider may give a reason in its own words."""
OTHER = "other"


class Numbering:
    """Numbers things in the order of their appearance, from 1."""

    def __init__(self) -> None:
        self._numbers: defaultdict[Any, int] = defaultdict(self._next)

    def of(self, thing: Any) -> int:
        return self._numbers[thing]

    def __contains__(self, thing: Any) -> bool:
        return thing in self._numbers

    def _next(self) -> int:
        return len(self._numbers) + 1


class Anonymous:
    """The numbers of one trace. Times are since its start, and never negative."""

    def __init__(self, own: PeerId, start_ms: int) -> None:
        self._own = own
        self._start_ms = start_ms
        self._peers = Numbering()
        self._images = Numbering()
        self._regions = Numbering()
        self._gangs = Numbering()
        self._jobs = Numbering()

    def at(self, now_ms: int) -> int:
        """Return a time of the trace."""
        return max(0, now_ms - self._start_ms)

    def peer(self, peer: PeerId) -> int:
        """Return the number of a peer; OWN for the recording node."""
        return OWN if peer == self._own else self._peers.of(peer)

    def offer(self, peer: PeerId, record: CapabilityRecord, now_ms: int) -> TracedOffer:
        """Return what a node lends. Of its images, those of jobs before this line are named."""
        prices = record.prices
        held = [bytes(each) for each in record.images]
        return TracedOffer(
            self.at(now_ms), self.peer(peer), record.cpus, record.memory_mib, record.disk_mib,
            prices.cpu, prices.memory_gib, prices.gpu,
            tuple(TracedGpus(gpus.gpu_class, gpus.count, gpus.vram_mib) for gpus in record.gpus),
            self._region(record.region),
            tuple(sorted(self._images.of(each) for each in held if each in self._images)),
        )  # fmt: skip

    def job(self, job: Job) -> TracedJob:
        """Return a job, as of its last submission."""
        spec, workload, terms = job.spec, job.spec.workload, job.spec.terms
        wanted = workload.resources
        return TracedJob(
            self.at(job.submitted_ms), self._jobs.of(job.job_id),
            self._images.of(workload.image[:PREFIX_BYTES]), workload.image_bytes,
            sum(each.blob.size for each in workload.inputs), wanted.cpus, wanted.memory_mib,
            wanted.disk_mib, workload.timeout_ms, terms.queue_ms, terms.profile, wanted.gpus,
            wanted.gpu_class, wanted.vram_mib, terms.rate_max, terms.cap_percent, terms.priority,
            terms.retries, self._region(terms.region), terms.nodes,
            self._gangs.of(spec.gang) if spec.gang else 0,
        )  # fmt: skip

    def event(self, job: Job, event: JobEventView) -> TracedEvent:
        """Return an event of a job."""
        detail: Mapping[str, Any] = event.detail
        provider, reason = detail.get("provider"), detail.get("reason")
        return TracedEvent(
            self.at(event.at_ms), self._jobs.of(job.job_id), event.kind,
            provider=self.peer(provider) if provider else None,
            bids=tuple(
                TracedBid(self.peer(bid["peer"]), bid["bid"]["ask"], bid["eligible"])
                for bid in detail.get("bids", ())
            ),
            refusals=tuple(
                TracedRefusal(self.peer(peer), Refusal(reason).name.lower())
                for peer, reason in detail.get("refusals", ())
            ),
            reason=reason if reason is None or reason in REASONS else OTHER,
            **{name: detail[name] for name in PLAIN if name in detail},
        )  # fmt: skip

    def answer(self, answered: AnsweredCall) -> TracedAnswer:
        """Return a call that this node answered."""
        asked = answered.resources
        return TracedAnswer(
            self.at(answered.at_ms), self.peer(answered.requester), asked.cpus, asked.memory_mib,
            asked.disk_mib, asked.gpus, answered.result.value, answered.ask, answered.price,
            answered.slots, answered.awards,
            None if answered.refusal is None else answered.refusal.name.lower(),
        )  # fmt: skip

    def _region(self, region: str) -> int:
        return self._regions.of(region) if region else 0
