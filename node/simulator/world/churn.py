"""When nodes come and go.

Spec: specs/simulation-world.md#churn.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Annotated, Final, Protocol

from node.simulator.seeds import stream
from node.simulator.world.quantities import Duration, Meaning
from protocol.values.errors import InvalidRequest

FILES_KEPT_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """A node goes or comes back."""

    after_ms: int
    """How long after the one before, or the start."""
    online: bool


class Churn(Protocol):
    """A model of churn."""

    def changes(self, number: int, seed: int) -> Iterator[PresenceChange]:
        """Yield the changes of one node, for as long as anybody asks; it is online at first."""
        ...


@dataclass(frozen=True, slots=True)
class Steady:
    """Nobody goes."""

    def changes(self, number: int, seed: int) -> Iterator[PresenceChange]:
        yield from ()


@dataclass(frozen=True, slots=True)
class Weibull:
    """Sessions of Weibull length, as measured in file-sharing networks (Stutzbach, Rejaie 2006)."""

    shape: Annotated[
        float, Meaning("k; below 1 many sessions are short, and few are long", 0.05, 10)
    ] = 0.5
    session: Annotated[Duration, Meaning("the scale of sessions (λ): 63 % are shorter")] = Duration(
        3_600_000
    )
    away: Annotated[Duration, Meaning("the mean time between sessions")] = Duration(600_000)

    def changes(self, number: int, seed: int) -> Iterator[PresenceChange]:
        chance = stream(seed, f"churn/{number}")
        # At the start a session is under way, the likelier the longer it is: so its length to the
        # power of the shape is gamma distributed. What is left of it is uniform in its length.
        power = chance.gammavariate(1 + 1 / self.shape, 1)
        stays_ms = self.session * power ** (1 / self.shape) * chance.random()
        for session in count(1):
            yield PresenceChange(round(stays_ms) + 1, online=False)
            # A generator is 3 kB: one for each of many nodes is not kept while they wait.
            chance = stream(seed, f"churn/{number}/{session}")
            stays_ms = chance.weibullvariate(self.session, self.shape)
            away_ms = chance.expovariate(1 / max(1, self.away))
            del chance
            yield PresenceChange(round(away_ms) + 1, online=True)


@dataclass(frozen=True, slots=True)
class Trace:
    """Sessions from a CSV file: node, milliseconds, 1 if it comes and 0 if it goes."""

    file: Annotated[Path, Meaning("the file, in the order of time for each node")]

    def changes(self, number: int, seed: int) -> Iterator[PresenceChange]:
        try:
            modified_ns = self.file.stat().st_mtime_ns
            changes = _read(self.file, modified_ns)
        except OSError as error:
            raise InvalidRequest(f"churn: {self.file}: {error.strerror}") from None
        before_ms = 0
        for at_ms, online in changes.get(number, ()):
            yield PresenceChange(at_ms - before_ms, online)
            before_ms = at_ms


@lru_cache(FILES_KEPT_MAX)
def _read(file: Path, modified_ns: int) -> dict[int, list[tuple[int, bool]]]:
    """Return the changes of each node in a file; a node that is there does not come again."""
    found: dict[int, list[tuple[int, bool]]] = {}
    for line, row in enumerate(csv.reader(file.read_text().splitlines()), 1):
        try:
            node, at_ms, online = map(int, row)
        except ValueError:
            raise InvalidRequest(
                f"churn: {file}, line {line}: node, milliseconds, 0 or 1"
            ) from None
        of_node = found.setdefault(node, [])
        before_ms, was_online = of_node[-1] if of_node else (0, True)
        if at_ms < before_ms or online not in {0, 1}:
            raise InvalidRequest(
                f"churn: {file}, line {line}: times of a node only grow, and the last is 0 or 1"
            )
        if bool(online) != was_online:
            of_node.append((at_ms, bool(online)))
    return found
