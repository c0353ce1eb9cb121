"""The temperature and the power of the processor, where the kernel lets us read them.

Spec: specs/owner.md#heat.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROCESSOR_CHIPS: Final = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal"})
PROCESSOR_ZONES: Final = frozenset({"x86_pkg_temp", "cpu-thermal", "cpu_thermal"})


def processor_celsius(system: Path = Path("/sys")) -> int | None:
    """Return the temperature of the hottest sensor of a processor; None if none can be read."""
    found = [*_temperatures(system)]
    return max(found) // 1000 if found else None


class PowerMeter:
    """Measures the power of the processor packages by their energy counters (RAPL)."""

    def __init__(self, system: Path = Path("/sys")) -> None:
        """Find the counters; a package has its parts below it, which are not counted again."""
        self._zones = sorted((system / "class/powercap").glob("intel-rapl:?"))
        self._before: tuple[float, dict[Path, int]] | None = None

    def watts(self, now_s: float) -> int | None:
        """Return the mean since the last call; None at first, or if no counter can be read."""
        counts = {zone: count for zone in self._zones
                  if (count := _number(zone / "energy_uj")) is not None}  # fmt: skip
        before, self._before = self._before, (now_s, counts)
        if before is None or not counts or now_s <= before[0] or counts.keys() != before[1].keys():
            return None
        used_uj = sum(_passed(zone, before[1][zone], count) for zone, count in counts.items())
        return round(used_uj / 1e6 / (now_s - before[0]))


def _passed(zone: Path, before: int, now: int) -> int:
    """Return by how much a counter has grown; it begins anew at its highest value."""
    return now - before if now >= before else now - before + (_number(zone / RANGE) or before)


RANGE: Final = "max_energy_range_uj"


def _temperatures(system: Path) -> Iterator[int]:
    for chip in (system / "class/hwmon").glob("hwmon*"):
        if _text(chip / "name") in PROCESSOR_CHIPS:
            yield from filter(None, map(_number, chip.glob("temp*_input")))
    for zone in (system / "class/thermal").glob("thermal_zone*"):
        if _text(zone / "type") in PROCESSOR_ZONES:
            yield from filter(None, [_number(zone / "temp")])


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # Many counters are for root alone, and a sensor may sleep.
        return ""
