"""What requesters have had of this provider and not paid: one budget for each, and one for all.

Spec: specs/standing.md#unpaid. All amounts are milliseconds of a slot. Keys cost nothing, so a
budget for each key bounds nothing by itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.core.standings import Standings
from protocol.machines.context import Context
from protocol.machines.provider import lease
from protocol.rules.standing import Standing, credit_of, unpaid_of
from protocol.values.bounded import keep_newest
from protocol.values.ids import LeaseId, PeerId
from protocol.values.limits import (
    RECEIPT_UNPAID_MS,
    STRANGERS_UNPAID_MS_MAX,
    UNPAID_MS_MAX,
)
from protocol.values.reasons import Refusal

SOURCE_SHARE: Final = 4
"""Requesters of one source have a quarter of the common budget."""
INCOME_SHARE: Final = 10
"""A provider adds a tenth of what it was paid for to the common budget, at most GROWTH times it."""
GROWTH: Final = 8
SOURCES_MAX: Final = 1_024


@dataclass(frozen=True, slots=True)
class _Open:
    """A lease that is not paid for: a fixed amount, or one that grows since an instant."""

    requester: PeerId
    source: str
    amount_ms: int = 0
    since_ms: int | None = None

    def at(self, now_ms: int) -> int:
        return self.amount_ms if self.since_ms is None else max(0, now_ms - self.since_ms)


@dataclass(frozen=True, slots=True)
class _Past:
    """What ended leases left unpaid beyond the credit of their requesters.

    It falls by 1 ms each ms: halving would begin again with every addition.
    """

    amount_ms: int = 0
    as_of_ms: int = 0

    def at(self, now_ms: int) -> int:
        return max(0, self.amount_ms - max(0, now_ms - self.as_of_ms))


class Unpaid:
    """The unpaid leases of a provider, and what earlier ones left."""

    def __init__(self, standings: Standings, sources: Mapping[PeerId, str]) -> None:
        """Take the standings, and the source of each connected peer."""
        self._standings = standings
        self._sources = sources
        self._open: dict[LeaseId, _Open] = {}
        self._past = _Past()
        self._past_of: dict[str, _Past] = {}
        """By source, the least recently changed first."""

    def refusal(self, requester: PeerId, context: Context) -> Refusal | None:
        """Return why a requester gets no further lease; None if it may have one.

        A requester with credit of its own does not depend on the common budget.
        """
        standing, now_ms = self._standings.of(requester), context.now_ms
        theirs = [each for each in self._open.values() if each.requester == requester]
        total_ms = unpaid_of(standing, now_ms) + sum(each.at(now_ms) for each in theirs)
        beyond_ms = total_ms - credit_of(standing)
        if beyond_ms > UNPAID_MS_MAX:
            return Refusal.UNPAID
        if beyond_ms < 0:
            return None
        source = self._sources.get(requester, "")
        budget_ms = self._budget_ms()
        spent = self._common_ms(now_ms) > budget_ms or (
            source and self._common_ms(now_ms, source) > budget_ms // SOURCE_SHARE
        )
        return Refusal.UNPROVEN if spent else None

    def note(
        self, before: lease.State, after: lease.State, context: Context, *, blameless: bool
    ) -> None:
        """Record a step of a lease. `blameless`: the requester paid, or our owner ended the lease.

        A lease that this provider failed costs its requester nothing.
        """
        lease_id, now_ms = before.hold.lease_id, context.now_ms
        earlier = self._open.pop(lease_id, None)
        if not isinstance(after, lease.Ended):
            self._open[lease_id] = self._opened(after, earlier, now_ms)
        elif earlier and not blameless and isinstance(before, lease.Unstarted | lease.Settling):
            self._keep(earlier, now_ms)

    def _opened(self, state: lease.State, earlier: _Open | None, now_ms: int) -> _Open:
        requester = state.hold.requester
        source = earlier.source if earlier else self._sources.get(requester, "")
        match state:
            case lease.Serving():
                return _Open(requester, source, since_ms=state.started_ms + state.paid_ms)
            case lease.Settling():
                return _Open(requester, source, _uncovered_ms(state))
            case lease.Stopping():
                return _Open(requester, source, earlier.at(now_ms) if earlier else 0)
            case _ if state.hold.after:  # It reserves nothing yet.
                return _Open(requester, source)
            case _ if earlier is not None and earlier.since_ms is not None:
                return earlier
            case _:
                return _Open(requester, source, since_ms=now_ms)

    def _keep(self, ended: _Open, now_ms: int) -> None:
        requester, amount_ms = ended.requester, ended.at(now_ms)
        before = self._standings.of(requester)
        self._standings.keep_unpaid(requester, amount_ms, now_ms)
        beyond_ms = _beyond(before, amount_ms, now_ms)
        self._past = _Past(self._past.at(now_ms) + beyond_ms, now_ms)
        past = self._past_of.pop(ended.source, _Past())
        self._past_of[ended.source] = _Past(past.at(now_ms) + beyond_ms, now_ms)
        keep_newest(self._past_of, SOURCES_MAX)

    def _common_ms(self, now_ms: int, source: str | None = None) -> int:
        """Return what is unpaid beyond the credit of each requester; of one source, or of all."""
        past = self._past if source is None else self._past_of.get(source, _Past())
        return past.at(now_ms) + sum(
            _beyond(self._standings.of(requester), amount_ms, now_ms)
            for requester, amount_ms in self._open_by_requester(now_ms, source)
        )

    def _open_by_requester(self, now_ms: int, source: str | None) -> Iterable[tuple[PeerId, int]]:
        sums: dict[PeerId, int] = {}
        for each in self._open.values():
            if source in {None, each.source}:
                sums[each.requester] = sums.get(each.requester, 0) + each.at(now_ms)
        return sums.items()

    def _budget_ms(self) -> int:
        earned_ms = self._standings.paid_ms // INCOME_SHARE
        return min(STRANGERS_UNPAID_MS_MAX + earned_ms, GROWTH * STRANGERS_UNPAID_MS_MAX)


def _beyond(standing: Standing, amount_ms: int, now_ms: int) -> int:
    """Return how much of a further amount exceeds a requester's credit."""
    left_ms = max(0, credit_of(standing) - unpaid_of(standing, now_ms))
    return max(0, amount_ms - left_ms)


def _uncovered_ms(state: lease.Settling) -> int:
    """Return the usage of a bill that no voucher covers; at least RECEIPT_UNPAID_MS."""
    receipt = state.receipt
    uncovered = max(0, receipt.amount - lease.promised(state.voucher))
    usage_ms = receipt.usage_ms * uncovered // receipt.amount if receipt.amount else 0
    return max(usage_ms, RECEIPT_UNPAID_MS)
