"""The part of the service in memory that is the owner's. Spec: specs/owner.md."""

from typing import Final

from node.rpc.owner_views import ConditionView, OwnerView

IDLE: Final = ConditionView("provider.idle_s", False, "used 3 s ago")
OPEN: Final = OwnerView("open", "", 1, conditions=(IDLE,))


class RecordedOwner:
    """Does what the owner says; the jobs that run end one by one, each time that it is asked."""

    owner_view: OwnerView

    def state(self) -> OwnerView:
        view = self.owner_view
        if view.mode in {"draining", "reclaimed"}:
            self.owner_view = OwnerView(view.mode, view.closed, max(0, view.jobs - 1))
        return view

    async def pause(self) -> OwnerView:
        return self._set(OwnerView("paused", "paused by its owner", 1))

    async def drain(self) -> OwnerView:
        return self._set(OwnerView("draining", "its owner drains it", 1))

    async def reclaim(self, within_ms: int | None) -> OwnerView:
        self.asked = within_ms
        return self._set(OwnerView("reclaimed", "reclaimed by its owner", 2, 5_000))

    async def resume(self) -> OwnerView:
        return self._set(OPEN)

    def _set(self, view: OwnerView) -> OwnerView:
        self.owner_view = view
        return view
