"""The conditions under which this node takes new jobs, checked every few seconds.

Spec: specs/owner.md#conditions.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import trio

from node.config.sections import ProviderSettings
from node.hardware.gpu import GpuReading
from node.owner.activity import OwnerActivity
from node.owner.control import OwnerControl
from node.owner.heat import PowerMeter, processor_celsius
from node.owner.hours import is_open, next_opening, span_of
from protocol.core.core import Core
from protocol.rules.capacity import Capacity

CHECK_S: Final = 5
"""The pause between two checks."""
COOLER_C: Final = 5
"""So much below its highest temperature a machine that was too hot takes jobs again ..."""
WEAKER_PERCENT: Final = 10
"""... and so much below its highest power."""
GPU_BUSY_PERCENT: Final = 10
"""A GPU that no job of others holds, and whose utilisation is higher, is used by its owner."""
GPU_FREE_CHECKS: Final = 3
"""A reading may be older than the end of the job that held a GPU: then it does not count yet."""
PROCESSORS_MAX: Final = 1.0
"""A machine on which other programs use more processors is used by its owner."""
OVER: Final = {"°C": "the machine is too hot", "W": "the machine uses too much power"}


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, and what was seen of it."""

    rule: str
    """The setting."""
    met: bool | None
    """None if the machine does not say: then it forbids nothing."""
    why: str
    """Why it is not met, for people; the same at every check while it is not."""
    seen: str
    """What was seen, for people."""


@dataclass(slots=True)
class Sensors:
    """What is known of the machine. The tests give folders of their own."""

    gpu_readings: Callable[[], Mapping[str, GpuReading]]
    activity: OwnerActivity
    power: PowerMeter
    celsius: Callable[[], int | None] = processor_celsius
    now_s: Callable[[], float] = time.time


class Conditions:
    """Closes the node while a condition is not met."""

    def __init__(
        self, settings: ProviderSettings, control: OwnerControl, core: Core, sensors: Sensors
    ) -> None:
        """Take the owner's settings; `change` replaces them."""
        self._settings = settings
        self._control = control
        self._core = core
        self._sensors = sensors
        self._changed = trio.Event()
        self._free: dict[str, int] = {}
        """For how many checks no job has held a GPU, by UUID."""
        self._has_ended_jobs = False
        """Whether the running jobs were told to end since a condition is not met."""
        self.known: tuple[Condition, ...] = ()
        """What was seen at the last check."""

    def change(self, settings: ProviderSettings) -> None:
        """Check other conditions from now on, at once."""
        self._settings = settings
        self._changed.set()

    @property
    def _are_set(self) -> bool:
        """Whether the owner has set any condition."""
        wanted = self._settings
        limits = (wanted.gpu_celsius_max, wanted.cpu_celsius_max, wanted.gpu_watts_max,
                  wanted.cpu_watts_max)  # fmt: skip
        return bool(wanted.hours or wanted.idle_s) or limits.count(None) < len(limits)

    async def run(self) -> None:
        """Check every few seconds, until cancelled."""
        try:
            while True:
                self._changed = trio.Event()
                with trio.move_on_after(CHECK_S if self._are_set else math.inf):
                    await self._changed.wait()
                await self.check()
        finally:
            self._sensors.activity.close()

    async def check(self) -> None:
        """Look at the machine and the time, and close or open the node."""
        total, free = self._core.policy.capacity, self._core.free()
        measure = partial(self._measure, total, free)
        self.known = await trio.to_thread.run_sync(measure) if self._are_set else ()
        unmet = next((one for one in self.known if one.met is False), None)
        await self._control.note_unmet(f"{unmet.rule}: {unmet.why}" if unmet else "")
        ends_jobs = unmet is not None and self._settings.when_closed == "reclaim"
        if ends_jobs and not self._has_ended_jobs:
            ends_jobs = await self._control.preempt()
        self._has_ended_jobs = ends_jobs

    def _measure(self, total: Capacity, free: Capacity) -> tuple[Condition, ...]:
        settings, now_s = self._settings, self._sensors.now_s()
        found = []
        if settings.hours:
            found.append(_hours(settings.hours, datetime.fromtimestamp(now_s)))  # noqa: DTZ006 - The hours are those of the wall clock here.
        if settings.idle_s:
            found.append(self._idle(now_s, total, free))
        return (*found, *self._heat(now_s))

    def _idle(self, now_s: float, total: Capacity, free: Capacity) -> Condition:
        activity, used = self._sensors.activity, ""
        self._free = {one.uuid: self._free.get(one.uuid, 0) + 1 for one in free.devices}
        for uuid, reading in self._sensors.gpu_readings().items():
            is_free = self._free.get(uuid, 0) >= GPU_FREE_CHECKS
            if is_free and (reading.utilisation_percent or 0) > GPU_BUSY_PERCENT:
                used = f"{uuid} is {reading.utilisation_percent} % busy"
        processors = activity.processors_of_others(total.cpus - free.cpus, now_s)
        if processors > PROCESSORS_MAX:
            used = f"other programs use {processors:.1f} processors"
        if used:
            activity.note_used(now_s)
        ago_s = round(now_s - activity.last_used_s(now_s))
        met = ago_s >= self._settings.idle_s
        seen = used or f"used {ago_s} s ago" if not met else "not used"
        return Condition("provider.idle_s", met, "its owner uses the machine", seen)

    def _heat(self, now_s: float) -> Iterable[Condition]:
        settings, readings = self._settings, self._sensors.gpu_readings().values()
        celsius = [one.temperature_c for one in readings if one.temperature_c is not None]
        watts = [one.power_w for one in readings if one.power_w is not None]
        seen = {
            "provider.gpu_celsius_max": max(celsius, default=None),
            "provider.gpu_watts_max": max(watts, default=None),
        }
        if settings.cpu_celsius_max is not None:
            seen["provider.cpu_celsius_max"] = self._sensors.celsius()
        if settings.cpu_watts_max is not None:
            seen["provider.cpu_watts_max"] = self._sensors.power.watts(now_s)
        for rule, value in seen.items():
            most = getattr(settings, rule.removeprefix("provider."))
            if most is not None:
                yield self._limit(rule, most, value)

    def _limit(self, rule: str, most: int, seen: int | None) -> Condition:
        if seen is None:
            return Condition(rule, None, "", "this machine does not say")
        unit = "°C" if "celsius" in rule else "W"
        margin = COOLER_C if unit == "°C" else most * WEAKER_PERCENT // 100
        was_over = any(one.rule == rule and one.met is False for one in self.known)
        bound = most - margin if was_over else most
        return Condition(rule, seen <= bound, OVER[unit], f"{seen} {unit}, at most {bound} {unit}")


def _hours(texts: Iterable[str], now: datetime) -> Condition:
    spans = [span_of(text) for text in texts]
    if is_open(spans, now):
        return Condition("provider.hours", True, "", "open")
    until = f"closed until {next_opening(spans, now):%a %H:%M}".lower()
    return Condition("provider.hours", False, until, until)
