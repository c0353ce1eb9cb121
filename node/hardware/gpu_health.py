"""Which GPUs must not be lent at the moment, and why: a pure function of what they reported.

Spec: specs/capability.md#gpu-trouble.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from node.hardware.gpu import GpuReading

HOT_MS: Final = 60_000
"""A GPU that slows itself down by heat for so long is in trouble."""
LOST_AFTER: Final = 2
"""A device that does not answer so many readings in a row has vanished; one may be a mistake."""
RECOVERED_MS: Final = 300_000
"""A GPU that was in trouble is lent again after so long without any."""


@dataclass(frozen=True, slots=True)
class GpuHealth:
    """What matters of a device's past. Times are of any clock that does not go back."""

    trouble: str = ""
    """Why it must not be lent; empty if it may be."""
    unanswered: int = 0
    """How many readings in a row it has not answered."""
    ecc_errors: int | None = None
    """The last reported number of memory errors."""
    damaged: bool = False
    """Whether memory errors were added since the driver was loaded."""
    hot_since_ms: int | None = None
    sound_since_ms: int | None = None
    """Since when nothing has been wrong with it."""

    @property
    def is_lost(self) -> bool:
        """Whether it has vanished, so that nothing can run on it."""
        return self.unanswered >= LOST_AFTER


def after_reading(before: GpuHealth, reading: GpuReading, now_ms: int) -> GpuHealth:
    """Return the health of a device after one more reading."""
    hot = _is_hot(reading)
    hot_since_ms = _since(before.hot_since_ms, now_ms, holds=hot)
    errors, damaged = _ecc(before, reading)
    following = replace(
        before, unanswered=before.unanswered + 1 if reading.lost else 0, ecc_errors=errors,
        damaged=damaged, hot_since_ms=hot_since_ms,
    )  # fmt: skip
    trouble = _trouble(following, reading, now_ms)
    sound = not trouble and not hot
    since_ms = _since(before.sound_since_ms, now_ms, holds=sound)
    if not trouble and before.trouble and (since_ms is None or now_ms < since_ms + RECOVERED_MS):
        trouble = before.trouble  # It may come back at any moment.
    return replace(following, trouble=trouble, sound_since_ms=since_ms)


def troubles_of(healths: Iterable[tuple[str, GpuHealth]]) -> dict[str, str]:
    """Return why devices must not be lent, by UUID; the healthy ones are left out."""
    return {uuid: health.trouble for uuid, health in healths if health.trouble}


def _trouble(health: GpuHealth, reading: GpuReading, now_ms: int) -> str:
    if reading.lost:
        return reading.lost
    if health.damaged:
        return (
            f"{health.ecc_errors} memory errors could not be corrected: "
            "reset the GPU or restart the machine"
        )
    if health.hot_since_ms is not None and now_ms >= health.hot_since_ms + HOT_MS:
        return f"it has slowed itself down by heat for {HOT_MS // 1000} s: check its fans"
    return ""


def _is_hot(reading: GpuReading) -> bool:
    """Return whether a device slows itself down by heat; newer drivers tell no temperature."""
    if reading.heat_brake:
        return True
    if reading.temperature_c is None or not reading.slowdown_c:
        return False
    return reading.temperature_c >= reading.slowdown_c


def _since(before_ms: int | None, now_ms: int, *, holds: bool) -> int | None:
    """Return since when a condition has held; None if it does not."""
    if not holds:
        return None
    return now_ms if before_ms is None else before_ms


def _ecc(before: GpuHealth, reading: GpuReading) -> tuple[int | None, bool]:
    """Return the number of memory errors, and whether any were added since the counter began."""
    if reading.ecc_errors is None:  # A lost device reports none.
        return before.ecc_errors, before.damaged
    if before.ecc_errors is None:
        return reading.ecc_errors, False
    if reading.ecc_errors < before.ecc_errors:  # A reset begins it anew, and mends the memory.
        return reading.ecc_errors, False
    return reading.ecc_errors, before.damaged or reading.ecc_errors > before.ecc_errors
