"""The part of the service in memory that is the owner's. Spec: specs/owner.md."""

from typing import Final

from node.rpc.owner_views import ConditionView, OwnerView, RefusalView, SettingView

PEER: Final = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
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

    def refusals(self) -> tuple[RefusalView, ...]:
        few = "this node has too few CPUs (asked 8, most 4)"
        return (
            RefusalView(61_000, PEER, "cpus", few, "lend more: provider.cpus", 2),
            RefusalView(60_000, PEER, "unpaid", "the requester owes this node too much", "", 1),
        )

    async def pause(self) -> OwnerView:
        return self._set(OwnerView("paused", "paused by its owner", 1))

    async def drain(self) -> OwnerView:
        return self._set(OwnerView("draining", "its owner drains it", 1))

    async def reclaim(self, within_ms: int | None) -> OwnerView:
        self.asked = within_ms
        return self._set(OwnerView("reclaimed", "reclaimed by its owner", 2, 5_000))

    async def resume(self) -> OwnerView:
        return self._set(OPEN)

    async def reload(self) -> tuple[SettingView, ...]:
        return (
            SettingView("price.cpu_hour", "0.01", "0.02", True),
            SettingView("provider.region", "", "europe", False),
        )

    def _set(self, view: OwnerView) -> OwnerView:
        self.owner_view = view
        return view
