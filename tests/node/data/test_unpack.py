"""What hostile layers try, and that none of it leaves the folder.

Spec: specs/data.md#unpacking.
"""

import gzip
import os
import stat
from pathlib import Path

import pytest
import trio

from node.data import unpack as unpack_module
from node.data.images import Images
from node.data.layers import Allowance
from protocol.values.errors import InvalidRequest, StorageFull

SECRET = b"the host's secret"


@pytest.fixture
async def run(tmp_path: Path, open_blobs, make_image, tar):
    """Return a function that unpacks layers; the host's secret lies beside the root."""
    blobs = await open_blobs()
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "victim").mkdir()

    async def unpacked(*layers, allowance: Allowance | None = None, **changes) -> Path:
        made = [layer if isinstance(layer, bytes) else tar(*layer) for layer in layers]
        image = await make_image(blobs, *made, **changes)
        images = Images(blobs, tmp_path / "blobs")
        try:
            return await images.unpack(image, tmp_path / "roots", allowance)
        finally:
            assert (tmp_path / "secret").read_bytes() == SECRET
            assert not list((tmp_path / "victim").iterdir())
            assert beside(tmp_path) <= {"secret", "victim", "blobs", "roots"}

    return unpacked


def beside(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def tree(root: Path) -> dict[str, str]:
    """Return what is in a root, without the mount points."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name in unpack_module.MOUNT_POINTS:
            assert path.is_dir()
            assert not path.is_symlink()
        elif path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = "folder" if path.is_dir() else path.read_bytes().decode()
    return found


async def test_a_sane_image(run) -> None:
    umask = os.umask(0o077)
    try:
        root = await run(
            [
                ("./", "DIRTYPE", {"mode": 0o700}),
                ("usr", "DIRTYPE", {"mode": 0o755}),
                ("usr/bin/tool", b"program", {"mode": 0o755, "mtime": 1234}),
                ("bin", "SYMTYPE usr/bin"),
                ("same", "LNKTYPE usr/bin/tool"),
                ("old", b"old"),
                ("gone", b"gone"),
            ],
            [("bin/second", b"through the link"), ("old", b"new"), (".wh.gone", b"")],
        )
    finally:
        os.umask(umask)
    assert tree(root) == {
        "bin": "-> usr/bin",
        "old": "new",
        "same": "program",
        "usr": "folder",
        "usr/bin": "folder",
        "usr/bin/tool": "program",
        "usr/bin/second": "through the link",
    }
    tool = (root / "usr/bin/tool").stat()
    assert stat.S_IMODE(tool.st_mode) == 0o755
    assert (tool.st_mtime, tool.st_nlink) == (1234, 2)
    assert {stat.S_IMODE((root / name).stat().st_mode) for name in ("", "usr", "usr/bin")} == {
        0o755
    }


CONTAINED = {
    "absolute path": [[("/etc/x", b"x")]],
    "absolute link": [[("l", "SYMTYPE {tmp}/victim"), ("l2", "SYMTYPE /"), ("l2/x", b"x")]],
    "climbing link": [[("l", "SYMTYPE ../../../../../../.."), ("l/x", b"x")]],
    "link, then file over it": [[("l", "SYMTYPE {tmp}/secret"), ("l", b"x")]],
    "link over layers": [[("l", "SYMTYPE {tmp}/secret")], [("l", b"x")]],
    "link to a file, opened": [[("a", "DIRTYPE"), ("a/l", "SYMTYPE {tmp}/secret")], [("a/l", b"")]],
    "whiteout of a link": [[("l", "SYMTYPE {tmp}/victim")], [(".wh.l", b"")]],
    "opaque over a link": [
        [("d", "DIRTYPE"), ("d/l", "SYMTYPE {tmp}")],
        [("d/.wh..wh..opq", b"")],
    ],
    "folder over a link": [[("l", "SYMTYPE {tmp}/victim")], [("l", "DIRTYPE"), ("l/x", b"x")]],
    "mount point as a link": [[("proc", "SYMTYPE {tmp}/victim"), ("tmp", b"file")]],
    "device": [[("null", "CHRTYPE", {"devmajor": 1, "devminor": 3}), ("sda", "BLKTYPE")]],
    "fifo": [[("pipe", "FIFOTYPE")]],
    "several names": [[("a", b"1"), ("a", b"2"), ("a", "DIRTYPE"), ("a/b", b"3")]],
    "link to itself": [[("a", b"1"), ("a", "LNKTYPE a")]],
}


@pytest.mark.parametrize("name", CONTAINED)
async def test_contained(run, tmp_path: Path, name: str) -> None:
    layers = [
        [
            tuple(
                part.replace("{tmp}", str(tmp_path)) if isinstance(part, str) else part
                for part in entry
            )
            for entry in layer
        ]
        for layer in CONTAINED[name]
    ]
    root = await run(*layers)
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
        assert not mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX) or stat.S_ISLNK(mode)
        assert path.lstat().st_uid == os.getuid()


async def test_what_an_opaque_whiteout_hides(run) -> None:
    root = await run(
        [("d/lower", b""), ("d/sub/lower", b"")],
        [("d/before", b""), ("d/.wh..wh..opq", b""), ("d/after/deep", b"")],
    )
    assert sorted(tree(root)) == ["d", "d/after", "d/after/deep", "d/before"]


async def test_no_setuid_no_owner(run) -> None:
    root = await run([("s", b"", {"mode": 0o6755, "uid": 1, "gid": 1}), ("w", b"", {"mode": 0})])
    assert stat.S_IMODE((root / "s").stat().st_mode) == 0o755
    assert (root / "s").stat().st_uid == os.getuid()
    assert stat.S_IMODE((root / "w").stat().st_mode) == 0o400


REFUSED = {
    "climbing path": [("../x", b"x")],
    "climbing inside": [("a/../../x", b"x")],
    "climbing hard link": [("x", "LNKTYPE ../secret")],
    "hard link to the host": [("x", "LNKTYPE {tmp}/secret")],
    "hard link through a link": [("l", "SYMTYPE {tmp}"), ("x", "LNKTYPE l/secret")],
    "hard link to a folder": [("d", "DIRTYPE"), ("x", "LNKTYPE d")],
    "hard link to the root": [("x", "LNKTYPE /")],
    "hard link to nothing": [("x", "LNKTYPE nothing")],
    "whiteout of the parent": [("d/.wh...", b"")],
    "whiteout of the folder": [("d/.wh..", b"")],
    "whiteout of nothing": [("d/.wh.", b"")],
    "file below a file": [("a", b""), ("a/b", b"")],
    "looping links": [("a", "SYMTYPE b"), ("b", "SYMTYPE a"), ("a/x", b"")],
    "magic link": [("l", "SYMTYPE /proc/self/root"), ("l/x", b"")],
    "dangling link": [("l", "SYMTYPE nowhere"), ("l/x", b"")],
    "long name": [("n" * 256, b"")],
    "deep path": [("d/" * 129 + "x", b"")],
    "deep by links": [
        ("d/" * 100 + "e", "DIRTYPE"),
        ("m", f"SYMTYPE {'d/' * 100}e"),
        (f"{'m/' + 'f/' * 100}x", b""),
        ("n", f"SYMTYPE m/{'f/' * 100}"),
        (f"n/{'g/' * 100}x", b""),
    ],
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(run, tmp_path: Path, name: str) -> None:
    entries = [
        tuple(part.replace("{tmp}", str(tmp_path)) if isinstance(part, str) else part for part in e)
        for e in REFUSED[name]
    ]
    with pytest.raises(InvalidRequest) as caught:
        await run(entries)
    assert "\n" not in str(caught.value)
    assert (name == "deep by links") == ("allowed depth" in str(caught.value))
    assert not list((tmp_path / "roots").iterdir())


async def test_limits(run, tar, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="more than 10 files"):
        await run([(str(n), b"") for n in range(11)], allowance=Allowance(entries_max=10))
    with pytest.raises(InvalidRequest, match="more than the allowed"):
        await run([("a", bytes(20_000))], allowance=Allowance(bytes_max=20_000))
    bomb = tar(("a", bytes(80 * 1024 * 1024)))
    with pytest.raises(InvalidRequest, match="gzip bomb"):
        await run(bomb, blob=gzip.compress(bomb))
    assert not list((tmp_path / "roots").iterdir())


async def test_tampered_layers(run, tar) -> None:
    layer = tar(("a", b"a"))
    with pytest.raises(InvalidRequest, match="not what the image's config names"):
        await run(layer, diff_ids=["sha256:" + "0" * 64])
    with pytest.raises(InvalidRequest, match="not gzip"):
        await run(layer, blob=gzip.compress(layer) + b"trailing")
    with pytest.raises(InvalidRequest, match="config names"):
        await run(layer, blob=gzip.compress(layer) + gzip.compress(b"trailing"))
    with pytest.raises(InvalidRequest, match="too early"):
        await run(layer, blob=gzip.compress(layer)[:-9])
    with pytest.raises(InvalidRequest, match="not zstd"):
        await run(layer, blob=gzip.compress(layer), packing="+zstd")
    with pytest.raises(InvalidRequest, match="disagree"):
        await run(layer, diff_ids=[])


async def test_a_layer_of_several_gzip_members(run, tar) -> None:
    layer = tar(("a", b"x" * 3000), ("b", os.urandom(3_000_000)))
    parts = [layer[:1500], layer[1500:2000], layer[2000:]]
    root = await run(layer, blob=b"".join(gzip.compress(part) for part in parts))
    assert (root / "a").read_bytes() == b"x" * 3000


async def test_a_damaged_blob_is_not_unpacked(tmp_path: Path, open_blobs, make_image, tar) -> None:
    blobs = await open_blobs()
    image = await make_image(blobs, tar(("a", b"right")), packing="")
    images = Images(blobs, tmp_path / "blobs")
    path = blobs.path((await images.parts(image))[2].digest)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"right", b"wrong"))
    with pytest.raises(InvalidRequest, match="is damaged"):
        await images.unpack(image, tmp_path / "roots")
    assert not list((tmp_path / "roots").iterdir())


async def test_a_full_disk(run, tmp_path: Path, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpack_module, "sync_file_system", full)
    with pytest.raises(StorageFull):
        await run([("a", b"a")])
    assert not list((tmp_path / "roots").iterdir())


async def test_cancelling_leaves_nothing(tmp_path: Path, run, monkeypatch) -> None:
    started = trio.Event()
    with trio.CancelScope() as scope:

        def begun(*_) -> None:
            trio.from_thread.run_sync(scope.cancel)

        monkeypatch.setattr(unpack_module, "_make_folder", begun)
        await run([("d", "DIRTYPE"), ("a", os.urandom(3 * 1024 * 1024))])
        started.set()
    assert scope.cancelled_caught
    assert not list((tmp_path / "roots").iterdir())


async def test_a_half_unpacked_folder_is_replaced(run, tmp_path: Path, open_blobs) -> None:
    root = await run([("a", b"a")])
    torn = root.with_name(f"{root.name}.unpacking")
    root.rename(torn)
    (torn / "a").write_bytes(b"torn")
    assert (await run([("a", b"a")]) / "a").read_bytes() == b"a"
    assert not torn.exists()
