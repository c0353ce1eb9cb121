"""Memories of a bounded size.

Spec: specs/parameters.md#limits.
"""

from typing import Any


def keep_newest(entries: dict[Any, Any], most: int) -> None:
    """Drop the oldest entries of a dict that has more than so many."""
    while len(entries) > most:
        del entries[next(iter(entries))]
