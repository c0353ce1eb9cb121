"""Sizes, durations and prices as the values of options: 512M, 2G, 90s, 10m, 1h, 0.50.

Spec: specs/rpc.md#quantities.
"""

from collections.abc import Callable
from typing import Any

import click

from protocol.values.quantities import mib_of, ms_of, us_of


class _Quantity(click.ParamType):  # type: ignore[type-arg]
    """An option's value as an integer."""

    read: Callable[[str], int]
    """Reads it; raises ValueError, with what is wrong."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return self.read(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Size(_Quantity):
    """An option's value in MiB."""

    name = "size"
    read = staticmethod(mib_of)


class Duration(_Quantity):
    """An option's value in milliseconds."""

    name = "duration"
    read = staticmethod(ms_of)


class RoundTrip(_Quantity):
    """An option's value in microseconds."""

    name = "ms"
    read = staticmethod(us_of)


class Names(click.ParamType):  # type: ignore[type-arg]
    """An option's value as names: text with commas, or all values of a repeated option."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in str(value).split(",") if name.strip())
        return names or self.fail("give a name, such as pypi.org", param, ctx)


class HourlyPrice(click.ParamType):  # type: ignore[type-arg]
    """An option's value in credits per hour, as written."""

    name = "credits"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from protocol.values.units import rate_of_hourly

        try:
            rate_of_hourly(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)
