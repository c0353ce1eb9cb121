"""When nodes come and go.

Spec: specs/simulation.md#churn.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from node.simulator.seeds import stream
from node.simulator.world.quantities import About, Duration
from protocol.values.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Change:
    """A node goes or comes back."""

    after_ms: int
    """How long after the one before, or the start."""
    online: bool


class Churn(Protocol):
    """A model of churn."""

    def changes(self, number: int, seed: int) -> Iterator[Change]:
        """Yield the changes of one node, for as long as anybody asks; it is online at first."""
        ...


@dataclass(frozen=True, slots=True)
class Steady:
    """Nobody goes."""

    def changes(self, number: int, seed: int) -> Iterator[Change]:
        yield from ()


@dataclass(frozen=True, slots=True)
class Weibull:
    """Sessions of Weibull length, as measured in file-sharing networks (Stutzbach, Rejaie 2006)."""

    shape: Annotated[
        float, About("k; below 1 many sessions are short, and few are long", 0.05, 10)
    ] = 0.5
    session: Annotated[Duration, About("the scale of sessions (λ): 63 % are shorter")] = Duration(
        3_600_000
    )
    away: Annotated[Duration, About("the mean time between sessions")] = Duration(600_000)

    def changes(self, number: int, seed: int) -> Iterator[Change]:
        chance = stream(seed, f"churn/{number}")
        # At the start a session is under way: what is left of it is uniform in its length.
        stays_ms = chance.weibullvariate(self.session, self.shape) * chance.random()
        while True:
            yield Change(round(stays_ms) + 1, online=False)
            yield Change(round(chance.expovariate(1 / max(1, self.away))) + 1, online=True)
            stays_ms = chance.weibullvariate(self.session, self.shape)


@dataclass(frozen=True, slots=True)
class Trace:
    """Sessions from a CSV file: node, milliseconds, 1 if it comes and 0 if it goes."""

    file: Annotated[Path, About("the file, in the order of time for each node")]

    def changes(self, number: int, seed: int) -> Iterator[Change]:
        before_ms = 0
        for line, row in enumerate(self._rows(), 1):
            try:
                node, at_ms, online = map(int, row)
            except ValueError:
                raise InvalidRequest(
                    f"churn: {self.file}, line {line}: node, milliseconds, 0 or 1"
                ) from None
            if node == number:
                yield Change(at_ms - before_ms, bool(online))
                before_ms = at_ms

    def _rows(self) -> list[list[str]]:
        try:
            return list(csv.reader(self.file.read_text().splitlines()))
        except OSError as error:
            raise InvalidRequest(f"churn: {self.file}: {error.strerror}") from None
