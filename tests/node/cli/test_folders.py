"""What of a folder becomes an input. Spec: specs/inputs.md."""

import os
import socket

import pytest

from node.cli.excludes import Excludes, excludes_of
from node.cli.failure import CliError
from node.cli.folders import scan_folder

NONE = Excludes(())


def listed(folder, excludes=NONE):
    return {each.path: each.kind for each in scan_folder(folder, excludes).entries}


def test_a_folder_comes_before_its_content_in_the_order_of_bytes(tmp_path):
    for name in ("a/b/c", "a.x", "é", "Z", "empty/"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text("xy")
    (tmp_path / "a/b/c").chmod(0o700)
    scan = scan_folder(tmp_path, NONE)
    assert [each.path for each in scan.entries] == [
        "Z", "a", "a/b", "a/b/c", "a.x", "empty", "é",
    ]  # fmt: skip
    assert [each.path for each in scan.entries if each.executable] == ["a/b/c"]
    assert scan.size == 8
    assert scan.lines() == ["4 files, 8 B"]


def test_links_that_stay_inside_are_kept(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/up").symlink_to("../file")
    (tmp_path / "folder").symlink_to("d")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "round").symlink_to("round")
    kinds = listed(tmp_path)
    assert [name for name, kind in kinds.items() if kind == "symbolic link"] == [
        "d/up", "dangling", "folder", "round",
    ]  # fmt: skip
    assert not any(name.startswith("folder/") for name in kinds)


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "d/../../x", "d/climb/../x"])
def test_links_that_lead_out_are_refused(tmp_path, target):
    folder = tmp_path / "f"
    (folder / "d").mkdir(parents=True)
    (folder / "d/climb").symlink_to("..")  # A name that another link can climb out by.
    (folder / "link").symlink_to(target)
    with pytest.raises(CliError, match="link: the link leads out of the folder") as caught:
        scan_folder(folder, NONE)
    assert "--exclude" in caught.value.hint
    assert "link" not in listed(folder, Excludes(["link"]))


def test_what_is_left_out_is_told(tmp_path):
    for name in (".git/a", "d/__pycache__/b", "d/c.py", "x.ckpt", "y.ckpt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    scan = scan_folder(tmp_path, excludes_of(tmp_path, ["*.ckpt"], defaults=True))
    assert [each.path for each in scan.entries] == ["d", "d/c.py"]
    assert scan.lines() == [
        "1 file, 0 B",
        "without .git, __pycache__ (--no-default-excludes keeps them)",
        "2 left out by patterns",
    ]


def test_sockets_and_pipes_are_skipped_and_told(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "sock"))
        scan = scan_folder(tmp_path, NONE)
    assert scan.entries == []
    assert scan.lines()[1] == "without sockets, pipes and devices: pipe; sock"


def test_names_that_are_not_utf8_are_refused(tmp_path):
    (tmp_path / os.fsdecode(b"a\xff")).touch()
    with pytest.raises(CliError, match="name is not UTF-8"):
        scan_folder(tmp_path, NONE)


def test_too_many_faults_are_told_by_number(tmp_path):
    for number in range(5):
        (tmp_path / f"l{number}").symlink_to("/x")
    with pytest.raises(CliError, match="; and 2 more"):
        scan_folder(tmp_path, NONE)


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CliError, match=r"cannot read .*: Permission denied"):
        scan_folder(tmp_path, NONE)


def test_too_many_entries(tmp_path, monkeypatch):
    monkeypatch.setattr("node.cli.folders.ENTRIES_MAX", 1)
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    with pytest.raises(CliError, match="more than 1 files"):
        scan_folder(tmp_path, NONE)
