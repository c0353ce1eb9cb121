"""Finds conditions that no node can meet, so that a job does not wait for one.

Spec: specs/query.md#contradictions. It compares conditions in pairs: what it reports is certain,
but it does not find everything.
"""

from collections.abc import Iterable
from itertools import combinations
from typing import Final

from protocol.rules.query import AnyOf, Comparison, Condition, parts_of
from protocol.rules.query_fields import REGION_ALIASES
from protocol.values.units import size_of_mib
from protocol.wire.job import Resources

ONE_VALUE: Final = frozenset({"peer", "gpu_class", "region", "agent"})
"""Fields with names of which a node has one."""
MOST: Final = 2**63


def contradiction(condition: Condition, given: Iterable[Comparison] = ()) -> str | None:
    """Return two conditions that contradict each other, as one line; None if none were found."""
    parts = tuple(parts_of(condition))
    facts = [*given, *(part for part in parts if isinstance(part, Comparison))]
    for fact in facts:
        if _bounds(fact)[1] < 0:
            return f"{fact.text}: nothing is less than 0"
    for first, second in combinations(facts, 2):
        if not _compatible(first, second):
            return f"{second.text} contradicts {first.text}"
    for choice in (part for part in parts if isinstance(part, AnyOf)):
        found = [contradiction(each, facts) for each in choice.parts]
        if all(found):
            return found[0]
    return None


def conditions_of(wanted: Resources, region: str) -> tuple[Comparison, ...]:
    """Return what a job demands besides its query, as conditions."""
    sizes = (("memory", wanted.memory_mib), ("disk", wanted.disk_mib), ("vram", wanted.vram_mib))
    names = (("gpu_class", wanted.gpu_class), ("region", region))
    return (
        _own("cpus", ">=", wanted.cpus, str(wanted.cpus)),
        *([_own("gpus", ">=", wanted.gpus, str(wanted.gpus))] if wanted.gpus else []),
        *(_own(field, ">=", mib, size_of_mib(mib)) for field, mib in sizes if mib),
        *(_own(field, "=", name.lower(), name) for field, name in names if name),
    )


def _own(field: str, operator: str, value: int | str, text: str) -> Comparison:
    return Comparison(field, operator, (value,), f"the job's {field}{operator}{text}")


def _compatible(first: Comparison, second: Comparison) -> bool:
    """Return whether a node may meet both."""
    if first.name != second.name:
        return True
    for one, other in ((first, second), (second, first)):
        if one.operator in {"=", "in"} and not any(_allows(other, v) for v in one.values):
            return False
    (low, high), (other_low, other_high) = _bounds(first), _bounds(second)
    return max(low, other_low) <= min(high, other_high)


def _allows(condition: Comparison, value: int | str) -> bool:
    """Return whether a node with this value may meet a condition."""
    if isinstance(value, int):
        return condition.allows(value)
    if condition.operator == "!=":
        return value not in condition.values
    if condition.name not in ONE_VALUE:
        return True
    return any(_same(value, str(other)) for other in condition.values)


def _same(one: str, other: str) -> bool:
    """Return whether two names may be names of one thing."""
    groups = ({region, *aliases} for region, aliases in REGION_ALIASES.items())
    return one in other or other in one or any({one, other} <= group for group in groups)


def _bounds(condition: Comparison) -> tuple[int, int]:
    """Return the least and the highest quantity that meet a condition; names have no bounds."""
    values = [value for value in condition.values if isinstance(value, int)]
    if not values:
        return 0, MOST
    return {
        "<": (0, values[0] - 1),
        "<=": (0, values[0]),
        ">": (values[0] + 1, MOST),
        ">=": (values[0], MOST),
        "!=": (0, MOST),
    }.get(condition.operator, (min(values), max(values)))
