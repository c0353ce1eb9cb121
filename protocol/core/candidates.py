"""Which known nodes can serve a job.

Spec: specs/core.md#candidates. A directory may hold many thousands of records. A call
examines a bounded number of them. Only the explanation of a missing bid examines all, and it is
cached for jobs with the same demand.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Final, TypeVar

from protocol.core.directory import DirectoryView
from protocol.core.jobs import Job
from protocol.core.standings import Standings
from protocol.machines.context import Context
from protocol.rules.advice import Advice, advise, with_holders
from protocol.rules.matching import (
    Demand,
    Explanation,
    demand_of_call,
    demand_of_job,
    explain,
    fits,
    slots_of,
)
from protocol.rules.pricing import Cap, cap_of, list_rate
from protocol.rules.selection import may_bid
from protocol.values.bounded import keep_newest
from protocol.values.ids import CallId, PeerId
from protocol.wire.envelope import Signed
from protocol.wire.job import JobSpec, Member
from protocol.wire.messages import Call, Listing

T = TypeVar("T")

LOOKED_AT_MAX: Final = 512
"""A call examines at most this many records, an even sample of a larger directory."""
RIVALS_AMONG: Final = 2_048
"""The search for one that may bid in the same auction examines at most this many records."""
EXPLANATION_MS: Final = 1_000
"""How long an answer about a demand is reused."""
EXPLANATIONS_MAX: Final = 64


class Candidates:
    """The nodes of a directory that can serve jobs."""

    def __init__(self, directory: DirectoryView, standings: Standings) -> None:
        self._directory = directory
        self._standings = standings
        self._answering: _Answers[tuple[PeerId, ...]] = {}
        self._explained: _Answers[Explanation] = {}

    def is_anybody(self, avoid: tuple[PeerId, ...], context: Context) -> bool:
        """Return whether any other node lends and is not to be avoided.

        It need not match: a call also reaches nodes whose records are unknown.
        """
        return any(True for _ in self._others(avoid, context))

    def count(self, spec: JobSpec, avoid: tuple[PeerId, ...], context: Context) -> tuple[int, int]:
        """Return the numbers of other known nodes and, estimated, of those that can serve a job."""
        nodes = self._count_others(context)
        able, step = self._sample(spec, avoid, context)
        return nodes, min(len(able) * step, nodes)

    def cap(
        self, spec: JobSpec, avoid: tuple[PeerId, ...], above: int, context: Context,
        *, is_doubted: bool = False,
    ) -> Cap | None:  # fmt: skip
        """Return the highest rate of a job's next call, and why; it is above a rate that failed.

        None if its user named no price, and no node that can serve it is known or the cap cannot be
        raised further. The price of a node that was waited for in vain counts only if there is no
        other.
        """
        terms, wanted = spec.terms, spec.workload.resources
        if terms.rate_max:
            return Cap(terms.rate_max, "the job's highest price") if not above else None
        answering = self._standings.answering()
        able, _ = self._sample(spec, avoid, context)
        heard = [each for each in able if not self._is_silent(each.peer, context)] or able
        prices = [(each.peer, list_rate(each.record.prices, wanted)) for each in heard]
        listed = [rate for _, rate in prices]
        answered = [rate for peer, rate in prices if peer in answering]
        return cap_of(listed, answered, above, terms.cap_percent, is_doubted=is_doubted)

    def answering(
        self, spec: JobSpec, avoid: tuple[PeerId, ...], context: Context
    ) -> tuple[PeerId, ...]:
        """Return the nodes that can serve a job and answered an earlier call.

        A record proves nothing: its node may not exist.
        """
        return _recent(self._answering, (demand_of_job(spec), avoid), self._find_answering, context)

    def in_one_region(self, job: Job, failures: int, context: Context) -> Job | None:
        """Return a job as it calls: a gang that wants one region names it; None if none will do.

        The cheapest region that has enough slots is tried first; after each failure the next.
        """
        if not job.spec.terms.same_region:
            return job
        able, step = self._sample(job.spec, job.avoid, context)
        wanted = job.spec.workload.resources
        slots: Counter[str] = Counter()
        lowest: dict[str, int] = {}
        for one in able:
            region, rate = one.record.region, list_rate(one.record.prices, wanted)
            slots[region] += step * slots_of(one.record, wanted)
            lowest[region] = min(rate, lowest.get(region, rate))
        enough = [region for region in slots if region and slots[region] >= job.spec.terms.nodes]
        if not enough:
            return None
        region = sorted(enough, key=lambda each: (lowest[each], each))[failures % len(enough)]
        terms = replace(job.spec.terms, region=region)
        return replace(job, spec=replace(job.spec, terms=terms))

    def without(self, job: Job, others: tuple[PeerId, ...], context: Context) -> Job | None:
        """Return a job as it calls: without some nodes; None if only they make them too few.

        If too few nodes can serve it anyway, it calls without them, too, and is told why.
        """
        if not others:
            return job
        avoid = tuple(dict.fromkeys((*job.avoid, *others)))
        slots = self.explanation(job.spec, avoid, context).slots
        all_slots = self.explanation(job.spec, job.avoid, context).slots
        if slots < job.spec.terms.nodes <= all_slots:
            return None
        return replace(job, avoid=avoid)

    def members_at(self, peers: tuple[PeerId, ...], context: Context) -> tuple[Member, ...]:
        """Return the members of a gang on these nodes, with addresses where they are known."""
        records = ((peer, self._directory.get(peer, context.now_ms)) for peer in peers)
        return tuple(Member(peer, record.addresses if record else ()) for peer, record in records)

    def able(
        self, spec: JobSpec, avoid: tuple[PeerId, ...], start: int, context: Context
    ) -> Iterator[PeerId]:
        """Yield nodes that can serve a job; of a large directory, those from `start` on."""
        demand = demand_of_job(spec)
        start = start if self._directory.count_providers() > LOOKED_AT_MAX else 0
        others = self._ring(avoid, start, LOOKED_AT_MAX, context)
        return (one.peer for one in others if fits(demand, one.peer, one.record))

    def rivals(self, called: Signed[Call], start: int, context: Context) -> Iterator[PeerId]:
        """Yield nodes that may bid in the auction of another requester, from `start` on."""
        demand = demand_of_call(called.message)
        for one in self._ring((called.signer,), start, RIVALS_AMONG, context):
            allowed = may_bid(CallId(called.content_id), called.message, one.peer)
            if allowed and fits(demand, one.peer, one.record):
                yield one.peer

    def explanation(
        self, spec: JobSpec, avoid: tuple[PeerId, ...], context: Context
    ) -> Explanation:
        """Return how all known nodes match a job."""
        return _recent(self._explained, (demand_of_job(spec), avoid), self._explain, context)

    def advise(self, spec: JobSpec, avoid: tuple[PeerId, ...], context: Context) -> Advice:
        """Return what would let more nodes serve a job, and what it would pay."""
        others, avoided = self._split(avoid, context)
        cap = self.cap(spec, avoid, 0, context)
        demand = demand_of_job(spec)
        advice = advise(demand, others, avoided, self._standings.answering(), cap)
        return with_holders(advice, demand, spec.workload, others)

    def _find_answering(
        self, demand: Demand, avoid: tuple[PeerId, ...], context: Context
    ) -> tuple[PeerId, ...]:
        unwelcome = {context.signer.peer_id, *avoid}
        known = ((peer, self._directory.get(peer, context.now_ms))
                 for peer in self._standings.answering() if peer not in unwelcome)  # fmt: skip
        return tuple(peer for peer, record in known if record and fits(demand, peer, record))

    def _explain(self, demand: Demand, avoid: tuple[PeerId, ...], context: Context) -> Explanation:
        return explain(demand, *self._split(avoid, context))

    def _split(self, avoid: tuple[PeerId, ...], context: Context) -> tuple[list[Listing], int]:
        """Return the other nodes without those to be avoided, and the number of these."""
        own = context.signer.peer_id
        known = [one for one in self._directory.listings(context.now_ms) if one.peer != own]
        others = [one for one in known if one.peer not in avoid]
        return others, len(known) - len(others)

    def _is_silent(self, peer: PeerId, context: Context) -> bool:
        return self._standings.of(peer).silent_until_ms > context.now_ms

    def _sample(
        self, spec: JobSpec, avoid: tuple[PeerId, ...], context: Context
    ) -> tuple[list[Listing], int]:
        """Return the nodes that can serve a job, of every so many of a large directory."""
        step = -(-self._directory.count_providers() // LOOKED_AT_MAX) or 1
        demand, others = demand_of_job(spec), self._others(avoid, context, step=step)
        return [one for one in others if fits(demand, one.peer, one.record)], step

    def _others(
        self, avoid: tuple[PeerId, ...], context: Context, start: int = 0, step: int = 1
    ) -> Iterator[Listing]:
        unwelcome = {context.signer.peer_id, *avoid}
        providers = self._directory.providers(context.now_ms, start, step)
        return (one for one in providers if one.peer not in unwelcome)

    def _ring(
        self, avoid: tuple[PeerId, ...], start: int, most: int, context: Context
    ) -> Iterator[Listing]:
        """Yield at most so many others, from number `start` on and then those before it."""
        start %= self._directory.count_providers() or 1
        first, rest = self._others(avoid, context, start), self._others(avoid, context)
        return islice(chain(first, islice(rest, start)), most)

    def _count_others(self, context: Context) -> int:
        known = len(self._directory)
        if known <= LOOKED_AT_MAX:  # Withdrawn and expired records do not count.
            known = len(self._directory.listings(context.now_ms))
        return known - (self._directory.get(context.signer.peer_id, context.now_ms) is not None)


_Asked = tuple[Demand, tuple[PeerId, ...]]
_Answers = dict[_Asked, tuple[int, T]]
"""Answers by question, and when each was found; the least recently used first."""


def _recent(
    answers: _Answers[T], asked: _Asked,
    find: Callable[[Demand, tuple[PeerId, ...], Context], T], context: Context,
) -> T:  # fmt: skip
    """Return the answer to a question, found again if it is older than EXPLANATION_MS."""
    told = answers.pop(asked, None)
    if told is None or not told[0] <= context.now_ms < told[0] + EXPLANATION_MS:
        told = context.now_ms, find(*asked, context)
    answers[asked] = told
    keep_newest(answers, EXPLANATIONS_MAX)
    return told[1]
