"""The rates of a node follow what it measures, and its images what it has.

Spec: specs/execution.md#preparation-rates.
"""

from node.provider.preparation import IMAGES_MAX, MEASURED_BYTES_MIN, PreparationMeter
from protocol.rules.start_promise import UNMEASURED
from protocol.values.ids import Digest
from protocol.wire.job import BlobRef

MIB = 2**20


def digest(number: int) -> Digest:
    return Digest(number.to_bytes(2) * 16)


def test_one_measurement_counts_for_a_share() -> None:
    meter = PreparationMeter(list, tuple)
    assert meter.preparation == UNMEASURED
    meter.note_fetched(10 * MIB, 1.0)
    meter.note_unpacked(MIB, 0.0)
    assert meter.preparation.fetch_rate == 10 * MIB
    assert meter.preparation.unpack_rate == 1_000 * MIB, "no clock is that fine"
    meter.note_fetched(20 * MIB, 1.0)
    assert meter.preparation.fetch_rate == 13 * MIB
    meter.note_fetched(MEASURED_BYTES_MIN - 1, 100.0)
    assert meter.preparation.fetch_rate == 13 * MIB, "too little to say anything"


def test_images_are_those_of_the_cache_and_of_an_engine() -> None:
    cached = [digest(1), digest(2)]
    stored = (BlobRef(digest(7), 5 * MIB), BlobRef(digest(8), MIB - 1), BlobRef(digest(9), 6 * MIB))
    meter = PreparationMeter(lambda: cached, lambda: stored)
    meter.note_image(digest(1))
    meter.note_image(digest(3))
    assert [meter.has(digest(n)) for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert meter.preparation.images == tuple(digest(n)[:8] for n in (3, 1, 2))
    assert meter.preparation.layers == (digest(9)[:8], digest(7)[:8]), "the largest first"
    cached.remove(digest(1))
    assert not meter.has(digest(1)), "the cache has evicted it"
    for number in range(IMAGES_MAX + 5):
        meter.note_image(digest(100 + number))
    assert not meter.has(digest(3))
    assert len(meter.preparation.images) == IMAGES_MAX
