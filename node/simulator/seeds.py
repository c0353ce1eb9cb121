"""Chance, all of it from one seed: a stream of its own for each subsystem, found by its name.

So one more draw in one place changes nothing in another, and strategies can be compared on the same
world. Only sources with a promise of stability are used: `random.Random` seeded with text, and the
raw bits of PCG64 (numpy's NEP 19 promises those, and not its distributions).

Spec: specs/simulation.md#determinism.
"""

import hashlib
import random

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint64]


def stream(seed: int, name: str) -> random.Random:
    """Return the generator of a subsystem."""
    return random.Random(f"{seed}/{name}")  # noqa: S311 - the point is that it can be repeated.


def bits(seed: int, name: str, count: int) -> Bits:
    """Return so many random 64-bit numbers for a subsystem."""
    key = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16])
    drawn: Bits = np.random.PCG64(key).random_raw(count)
    return drawn


def choose(drawn: Bits, weights: list[int]) -> NDArray[np.int64]:
    """Return a choice for each drawn number: an index into the weights, as likely as its weight."""
    bounds = np.cumsum(np.array(weights, dtype=np.uint64))
    chosen: NDArray[np.int64] = np.searchsorted(bounds, drawn % bounds[-1], side="right")
    return chosen


def between(drawn: Bits, least: int, most: int) -> NDArray[np.int64]:
    """Return an integer from `least` to `most` for each drawn number."""
    span = np.uint64(most - least + 1)
    return (drawn % span).astype(np.int64) + least


def pair_hash(one: NDArray[np.int64], other: NDArray[np.int64], key: int) -> Bits:
    """Return a number for each unordered pair of nodes that looks random (SplitMix64)."""
    low, high = np.minimum(one, other), np.maximum(one, other)
    mixed = (low.astype(np.uint64) << np.uint64(32)) ^ high.astype(np.uint64)
    mixed = (mixed + np.uint64(key)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
