"""Sizes, durations and prices as the values of options: 512M, 2G, 90s, 10m, 1h, 0.50.

Spec: specs/rpc.md#quantities.
"""

from typing import Any

import click

from protocol.values.quantities import mib_of, ms_of, us_of


class Size(click.ParamType):  # type: ignore[type-arg]
    """An option's value in MiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return mib_of(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType):  # type: ignore[type-arg]
    """An option's value in milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return ms_of(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class RoundTrip(click.ParamType):  # type: ignore[type-arg]
    """An option's value in microseconds."""

    name = "ms"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return us_of(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


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
