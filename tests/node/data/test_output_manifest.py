"""A listing is read back, and one that an honest provider cannot have made is known as such.

Spec: specs/sandbox.md#outputs.
"""

import tracemalloc

import pytest

from node.data.output_manifest import (
    blobs_of,
    fault_of,
    listed_outputs,
    log_bytes_max,
    pin_listing,
    read_listing,
)
from protocol.values.errors import BlobUnavailable
from protocol.values.ids import digest_of
from protocol.wire.codec import encode
from protocol.wire.job import BlobRef, FileRef, Outputs, Workload
from tests.node.fixtures import NodeFolder, ref_of

WORKLOAD = Workload(digest_of(b"image"), ("true",), output_mib=1, log_mib=1)
LOG = ref_of(b"log")


def listing(*paths: str, size: int = 1, log: BlobRef = LOG) -> Outputs:
    return Outputs(tuple(FileRef(path, BlobRef(digest_of(b"x"), size)) for path in paths), log)


async def test_it_is_read_back(bea: NodeFolder) -> None:
    outputs = listing("a", "b/c")
    ref = await bea.blobs.put_bytes(encode(outputs), "output")
    assert await read_listing(bea.blobs, ref.digest) == outputs


async def test_what_is_no_listing(bea: NodeFolder) -> None:
    ref = await bea.blobs.put_bytes(b"no listing", "output")
    with pytest.raises(BlobUnavailable, match="is broken"):
        await read_listing(bea.blobs, ref.digest)
    with pytest.raises(BlobUnavailable, match="is not here"):
        await read_listing(bea.blobs, digest_of(b"nowhere"))


def bundled(*sizes: int, bundle: int | None = None) -> Outputs:
    """Return a listing of files in a bundle, and one beside them."""
    files = [
        FileRef(f"b{number}", BlobRef(digest_of(b"%d" % number), size), bundled=True)
        for number, size in enumerate(sizes)
    ]
    bundles = () if bundle is None else (BlobRef(digest_of(b"bundle"), bundle),)
    return Outputs((*files, FileRef("z", BlobRef(digest_of(b"z"), 1))), LOG, bundles)


async def test_the_place_of_each_file(bea: NodeFolder) -> None:
    outputs = bundled(3, 0, 4, bundle=7)
    ref = await bea.blobs.put_bytes(encode(outputs), "output")
    found = await listed_outputs(bea.blobs, ref.digest)
    bundle = digest_of(b"bundle")
    assert [(each.blob, each.offset) for each in found.values()] == [
        (bundle, 0), (bundle, 3), (bundle, 3), (digest_of(b"z"), 0),
    ]  # fmt: skip
    assert [each.view.path for each in found.values()] == [*found] == ["b0", "b1", "b2", "z"]
    assert blobs_of(outputs) == [outputs.bundle[0], outputs.files[-1].blob]
    pin_listing(bea.blobs, "owner", ref.digest, outputs)
    assert bea.blobs._pins["owner"] == {ref.digest, LOG.digest, bundle, digest_of(b"z")}


async def test_pins_are_of_all_that_it_names(bea: NodeFolder) -> None:
    pin_listing(bea.blobs, "owner", digest_of(b"listing"), listing("a"))
    assert bea.blobs._pins["owner"] == {digest_of(b"listing"), LOG.digest, digest_of(b"x")}


@pytest.mark.parametrize("outputs", [
    listing(),
    listing("a", "a.txt", "a-b/c", "ab"),
    listing("one", size=2**20),
    listing(log=BlobRef(LOG.digest, log_bytes_max(WORKLOAD))),
    bundled(3, 0, 4, bundle=7),
    bundled(0, bundle=0),
])  # fmt: skip
def test_honest_ones(outputs: Outputs) -> None:
    assert fault_of(outputs, WORKLOAD) == ""


@pytest.mark.parametrize("outputs, why", [
    (listing("a", "b", size=2**19 + 1), "1 MiB were agreed"),
    (listing(log=BlobRef(LOG.digest, log_bytes_max(WORKLOAD) + 1)), "over 1 MiB"),
    (bundled(3, 4, bundle=8), "the sizes of its bundle"),
    (bundled(3, 4), "the sizes of its bundle"),
    (bundled(0), "the sizes of its bundle"),
    (bundled(bundle=1), "the sizes of its bundle"),
    (listing("../a"), "leads out of"),
    (listing("/a"), "leads out of"),
    (listing("a", "a"), "same name"),
    (listing("a/b", "a-", "a"), "same name"),
    (listing("a/b/c", "a/b"), "same name"),
])  # fmt: skip
def test_those_of_liars(outputs: Outputs, why: str) -> None:
    assert why in fault_of(outputs, WORKLOAD)


def test_the_longest_listing_costs_little_memory() -> None:
    deep = "/".join(["ab"] * 300)
    outputs = listing(*(f"{number}/{deep}" for number in range(1_000)), size=0)
    text = sum(len(file.path) for file in outputs.files)
    # Whoever kept every folder of every path would need a hundred times as much.
    tracemalloc.start()
    try:
        assert fault_of(outputs, WORKLOAD) == ""
        assert tracemalloc.get_traced_memory()[1] < 3 * text
    finally:
        tracemalloc.stop()
