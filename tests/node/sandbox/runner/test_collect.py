"""Hostile outputs.

Spec: specs/sandbox.md#outputs.
"""

import os
import socket

import pytest

from node.sandbox.runner import collect


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def run(source, tmp_path, bytes_max=1 << 20):
    descriptor = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = collect.collect(descriptor, str(tmp_path / "taken"), bytes_max)
    finally:
        os.close(descriptor)
    paths = (tmp_path / "taken").rglob("*")
    return found, {str(p.relative_to(tmp_path / "taken")): p for p in paths if p.is_file()}


def test_regular_files_are_taken_and_are_ours(source, tmp_path):
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "b" / "c").write_bytes(b"data")
    (source / "suid").write_bytes(b"#!")
    (source / "suid").chmod(0o6777)
    (source / "-rf ü").touch()
    found, files = run(source, tmp_path)
    assert found.refused == []
    assert sorted(files) == ["-rf ü", "a/b/c", "suid"]
    assert files["a/b/c"].read_bytes() == b"data"
    modes = {name: path.stat().st_mode & 0o7777 for name, path in files.items()}
    assert modes == {"-rf ü": 0o600, "a/b/c": 0o600, "suid": 0o700}  # It may run, as ours.


@pytest.mark.parametrize("path", ["a/b", "a/b/c"])
def test_one_path_is_taken_and_nothing_beside_it(source, tmp_path, path):
    (source / "a" / "b").mkdir(parents=True)
    for name in ("a/b/c", "a/other", "other"):
        (source / name).write_text(name)
    descriptor = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    found = collect.collect_at(descriptor, path, str(tmp_path / "taken"), 1 << 20)
    os.close(descriptor)
    assert found.refused == []
    files = [p for p in (tmp_path / "taken").rglob("*") if p.is_file()]
    assert files == [tmp_path / "taken" / "a" / "b" / "c"]


@pytest.mark.parametrize("path", ["missing", "link/x", "file/x"])
def test_a_path_that_is_not_there_or_leads_elsewhere(source, tmp_path, path):
    (source / "link").symlink_to("/etc")
    (source / "file").touch()
    descriptor = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(OSError, match=r"No such file|Not a directory|symbolic links"):
        collect.collect_at(descriptor, path, str(tmp_path / "taken"), 1 << 20)
    os.close(descriptor)


def test_what_is_no_regular_file_is_refused(source, tmp_path):
    (source / "link").symlink_to("/etc/passwd")
    (source / "folder-link").symlink_to("/etc")
    (source / "loop").symlink_to("loop")
    os.mkfifo(source / "fifo")
    (source / "one").write_bytes(b"x")
    os.link(source / "one", source / "two")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(source / "socket"))
    found, files = run(source, tmp_path)
    assert files == {}
    assert [line.partition(":")[0] for line in found.refused] == [
        "fifo", "folder-link", "link", "loop", "one", "socket", "two"]  # fmt: skip
    assert "link: a symbolic link" in found.refused


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_devices_are_refused(source, tmp_path):
    os.mknod(source / "device", 0o20666, os.makedev(1, 1))
    found, files = run(source, tmp_path)
    assert (found.refused, files) == (["device: a device"], {})


def test_bad_names_are_refused_in_printable_words(source, tmp_path):
    for name in (b"new\nline", b"\xff\xfe", b"esc\x1b[2J"):
        (os.fsencode(source) + b"/" + name).decode("utf-8", "surrogateescape")
        os.close(os.open(os.fsencode(source) + b"/" + name, os.O_CREAT | os.O_WRONLY))
    found, files = run(source, tmp_path)
    assert files == {}
    assert len(found.refused) == 3
    assert all(line.isprintable() for line in found.refused)


def test_bytes_are_bounded_sparse_ones_too(source, tmp_path):
    (source / "a").write_bytes(bytes(600))
    (source / "b").write_bytes(bytes(600))
    with (source / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    found, files = run(source, tmp_path, 1000)
    assert list(files) == ["a"]
    assert found.refused[0] == "b: over the limit of output: 600 bytes"
    assert len(found.refused) == 2


def test_files_and_refusals_are_bounded(source, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "FILES_MAX", 3)
    for number in range(300):
        (source / f"{number:03}").touch()
    found, files = run(source, tmp_path)
    assert len(files) == 3
    assert len(found.refused) == collect.REFUSED_MAX
    assert found.refused[-1] == "and 198 more"


def test_depth_and_entries_are_bounded(source, tmp_path, monkeypatch):
    deep = source
    for _ in range(40):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "file").touch()
    found, files = run(source, tmp_path)
    assert files == {}
    assert "deeper than 32 folders" in found.refused[0]
    monkeypatch.setattr(collect, "ENTRIES_MAX", 5)
    (tmp_path / "taken").rename(tmp_path / "before")
    for number in range(10):
        (source / f"{number}").touch()
    found, files = run(source, tmp_path)
    assert len(files) == 5
    assert any("more than 5 entries" in line for line in found.refused)
