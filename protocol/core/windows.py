"""How long calls wait for answers: longer for a demand that none reached in time.

Spec: specs/auction.md#slow-networks. Only the number and the time of the answers count, never what
a bid says.
"""

from dataclasses import dataclass, replace
from typing import Final

from protocol.core.jobs import BlockKey
from protocol.values.bounded import keep_newest
from protocol.values.ids import CallId
from protocol.values.limits import WIDE_MS, WINDOW_MS_MAX
from protocol.wire.messages import Call

DOUBLINGS_MAX: Final = 3
DEMANDS_MAX: Final = 256
"""For so many demands it is known that their answers come late."""
LOST_MAX: Final = 256
"""For so many calls without a bid, an answer that comes too late counts."""


@dataclass(frozen=True, slots=True)
class _Widened:
    """How often the windows of a demand are doubled, and when they last were."""

    doublings: int
    at_ms: int


class Windows:
    """The demands whose calls wait longer than usual."""

    def __init__(self) -> None:
        self._widened: dict[BlockKey, _Widened] = {}
        self._lost: dict[CallId, BlockKey] = {}
        """Recent calls to which nobody came in time."""

    def lose(self, key: BlockKey, call_id: CallId) -> None:
        """Note a call without a bid: if one still comes, the windows were too short."""
        self._lost[call_id] = key
        keep_newest(self._lost, LOST_MAX)

    def hear_late(self, call_id: CallId, now_ms: int) -> None:
        """Double the windows if nobody had come in time, once for each call."""
        key = self._lost.pop(call_id, None)
        if key is not None:
            self.widen(key, now_ms)

    def widen(self, key: BlockKey, now_ms: int) -> None:
        """Double the windows of a demand."""
        before = self._of(key, now_ms)
        doublings = 1 if before is None else min(before.doublings + 1, DOUBLINGS_MAX)
        self._widened.pop(key, None)
        self._widened[key] = _Widened(doublings, now_ms)
        keep_newest(self._widened, DEMANDS_MAX)

    def narrow(self, key: BlockKey, call: Call, now_ms: int) -> None:
        """Halve the windows of a demand if half would have done for the call, which has sold."""
        before = self._of(key, now_ms)
        if before is None or 2 * (now_ms - call.issued_ms) >= call.commit_ms + call.reveal_ms:
            return
        self._widened[key] = replace(before, doublings=max(0, before.doublings - 1))

    def fit(self, call: Call, key: BlockKey, now_ms: int) -> Call:
        """Return a call with the windows of its demand."""
        known = self._of(key, now_ms)
        factor = 1 << known.doublings if known else 1
        return replace(
            call,
            commit_ms=min(factor * call.commit_ms, WINDOW_MS_MAX),
            reveal_ms=min(factor * call.reveal_ms, WINDOW_MS_MAX),
        )

    def _of(self, key: BlockKey, now_ms: int) -> _Widened | None:
        known = self._widened.get(key)
        return known if known and now_ms - known.at_ms < WIDE_MS else None
