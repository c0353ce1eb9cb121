"""Sizes and durations as people write them: 512M, 2G, 90s, 10m, 1h.

Spec: specs/rpc.md#quantities.
"""

import re
from decimal import Decimal
from typing import Final

MIB_OF_UNIT: Final = {"": 1, "M": 1, "G": 1024, "T": 1024**2}
MS_OF_UNIT: Final = {"": 1000, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
US_OF_UNIT: Final = {"": 1_000, "us": 1, "ms": 1_000, "s": 1_000_000}
_QUANTITY: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)", re.ASCII)


def mib_of(text: str) -> int:
    """Return MiB from "512M", "2G", "1.5GiB" or "512"; ValueError if it is not a size."""
    number, unit = _parts(text, "a size such as 512M or 2G")
    unit = unit.upper().removesuffix("IB").removesuffix("B")
    if unit not in MIB_OF_UNIT:
        raise ValueError(f"{text!r} is not a size such as 512M or 2G")
    return _whole(number * MIB_OF_UNIT[unit], f"{text!r} is not a whole number of MiB")


def ms_of(text: str) -> int:
    """Return milliseconds from "90s", "10m", "1h" or seconds; ValueError if it is none of them."""
    number, unit = _parts(text, "a duration such as 90s, 10m or 1h")
    if unit not in MS_OF_UNIT:
        raise ValueError(f"{text!r} is not a duration such as 90s, 10m or 1h")
    return _whole(number * MS_OF_UNIT[unit], f"{text!r} is not a whole number of milliseconds")


def us_of(text: str) -> int:
    """Return microseconds from "20ms", "500us", "0.1s" or milliseconds; ValueError if none."""
    number, unit = _parts(text, "a round trip such as 20ms or 500us")
    if unit not in US_OF_UNIT:
        raise ValueError(f"{text!r} is not a round trip such as 20ms or 500us")
    return _whole(number * US_OF_UNIT[unit], f"{text!r} is not a whole number of microseconds")


def _parts(text: str, wanted: str) -> tuple[Decimal, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not {wanted}")
    return Decimal(match[1]), match[2]


def _whole(number: Decimal, complaint: str) -> int:
    if number != number.to_integral_value():
        raise ValueError(complaint)
    return int(number)
