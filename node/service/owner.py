"""What the owner decides about the machine: pause, drain, reclaim, resume.

Spec: specs/owner.md#modes.
"""

from dataclasses import dataclass

from node.driver.clock import Clock
from node.owner.conditions import Conditions
from node.owner.control import OwnerControl, OwnerMode
from node.owner.reloading import Reloader
from node.provider.executions import Executions
from node.rpc.owner_views import ConditionView, OwnerView, RefusalView, SettingView
from node.service.refusals import refusal_view
from protocol.core.core import Core
from protocol.values.errors import Conflict


@dataclass(slots=True)
class OwnerService:
    """Implements node.rpc.service.OwnerApi."""

    control: OwnerControl
    conditions: Conditions
    core: Core
    clock: Clock
    executions: Executions
    reloader: Reloader
    until_ms: int | None = None
    """When reclaimed jobs end at the latest."""

    def state(self) -> OwnerView:
        """Return what the owner said last, and what follows from it."""
        left = self.core.status(self.clock.now_ms()).jobs_provided + self.executions.dropping
        control = self.control
        until_ms = self.until_ms if control.mode is OwnerMode.RECLAIMED else None
        known = tuple(ConditionView(one.rule, one.met, one.seen) for one in self.conditions.known)
        return OwnerView(control.mode.value, control.closed, left, until_ms, known)

    def refusals(self) -> tuple[RefusalView, ...]:
        """Return why this node did not serve calls lately, the newest first."""
        return tuple(map(refusal_view, self.core.refusals()))

    async def pause(self) -> OwnerView:
        """Take no new jobs."""
        return await self._set(OwnerMode.PAUSED)

    async def drain(self) -> OwnerView:
        """Take no new jobs, until those that run have ended, and afterwards."""
        return await self._set(OwnerMode.DRAINING)

    async def resume(self) -> OwnerView:
        """Take jobs again."""
        return await self._set(OwnerMode.OPEN)

    async def reclaim(self, within_ms: int | None) -> OwnerView:
        """Take no new jobs, and end those that run."""
        self._check()
        notice_ms = self.control.lent.notice_ms if within_ms is None else within_ms
        self.until_ms = self.clock.now_ms() + notice_ms
        await self.control.reclaim(notice_ms)
        return self.state()

    async def reload(self) -> tuple[SettingView, ...]:
        """Read the configuration again, and apply what needs no restart."""
        changed = await self.reloader.reload()
        return tuple(
            SettingView(one.key, _shown(one.before), _shown(one.after), one.is_live)
            for one in changed
        )

    async def _set(self, mode: OwnerMode) -> OwnerView:
        self._check()
        await self.control.set_mode(mode)
        return self.state()

    def _check(self) -> None:
        if not self.control.lent.providing:
            raise Conflict("this node lends nothing: see provider.enabled and `mutirao status`")


def _shown(value: object) -> str:
    """Return a setting's value for people; an unset one is empty."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
