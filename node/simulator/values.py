"""Reads the values of a scenario: numbers with their bounds, durations, texts.

Spec: specs/simulation.md#scenario.
"""

from pathlib import Path
from typing import Any

from node.config.convert import Unfit, convert
from node.simulator.world.models import Parameter
from node.simulator.world.quantities import Duration
from protocol.values.quantities import ms_of


def read_value(value: object, parameter: Parameter, folder: Path) -> Any:
    """Return the value of a parameter; raise Unfit, with what would fit.

    A path that is not absolute is one within the folder.
    """
    kind, about = parameter.kind, parameter.about
    if kind is Duration:
        return Duration(_duration(value))
    if kind is Path:
        return folder / Path(convert(value, str)).expanduser()
    read = _number(value) if kind is float else convert(value, kind)
    if isinstance(read, int | float) and not isinstance(read, bool):
        if read < about.least:
            raise Unfit(f"{about.least:,} or more")
        if about.most is not None and read > about.most:
            raise Unfit(f"{about.most:,} or less")
    return read


def _duration(value: object) -> int:
    try:
        return ms_of(str(value))
    except ValueError:
        raise Unfit("a duration such as 90s, 10m or 1h") from None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit("a number")
    return float(value)
