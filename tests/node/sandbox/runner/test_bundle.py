"""Small outputs beyond the first are one file, with an index. Spec: specs/sandbox.md#outputs."""

import os
from pathlib import Path

from node.sandbox.driver import BundledOutput, bundle_path, bundled_outputs, outputs_path
from node.sandbox.runner import bundle, collect


def collected(source: Path, folder: Path) -> list[str]:
    handle = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return collect.collect(handle, str(outputs_path(folder)), 2**20).refused
    finally:
        os.close(handle)


def test_the_first_are_files_and_the_rest_is_in_the_bundle(tmp_path: Path) -> None:
    source, folder = tmp_path / "out", tmp_path / "run"
    (source / "d").mkdir(parents=True)
    folder.mkdir()
    for number in range(bundle.ALONE_MAX):
        (source / f"a{number}").write_bytes(b"x")
    (source / "d" / "two words").write_bytes(b"two")
    (source / "empty").touch()
    (source / "large").write_bytes(bytes(bundle.FILE_BYTES_MAX + 1))
    (source / "tool").write_bytes(b"#!")
    (source / "tool").chmod(0o755)
    (source / "link").symlink_to("tool")
    assert collected(source, folder) == ["link: a symbolic link"]
    assert bundled_outputs(folder) == (
        BundledOutput("d/two words", 3, executable=False, offset=0),
        BundledOutput("empty", 0, executable=False, offset=3),
        BundledOutput("tool", 2, executable=True, offset=3),
    )
    assert bundle_path(folder).read_bytes() == b"two#!"
    files = [path.name for path in outputs_path(folder).rglob("*") if path.is_file()]
    assert len(files) == bundle.ALONE_MAX + 1
    assert "large" in files
    collect.discard(str(outputs_path(folder)))
    assert list(folder.iterdir()) == []


def test_few_outputs_need_none(tmp_path: Path) -> None:
    source, folder = tmp_path / "out", tmp_path / "run"
    source.mkdir()
    folder.mkdir()
    for number in range(bundle.ALONE_MAX):
        (source / str(number)).touch()
    assert collected(source, folder) == []
    assert [path.name for path in folder.iterdir()] == ["outputs"]
    assert bundled_outputs(folder) == ()


def test_the_limit_of_bytes_counts_the_bundle(tmp_path: Path) -> None:
    source, folder = tmp_path / "out", tmp_path / "run"
    source.mkdir()
    folder.mkdir()
    for number in range(100):
        (source / f"{number:02}").write_bytes(bytes(2**14))
    refused = collected(source, folder)
    assert refused[0] == "64: over the limit of output: 16384 bytes"
    assert len(refused) == 36
    assert bundled_outputs(folder)[-1].path == "63"
