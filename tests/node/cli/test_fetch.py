"""Fetching what a job left. Spec: specs/rpc.md#command-line."""

import os
from dataclasses import replace

import pytest

from node.cli.connection import Connection
from node.cli.failure import CliError
from node.cli.fetch import fetch_outputs
from tests.node.rpc.recorded import BASE


@pytest.fixture
def job(daemon):
    node = Connection(daemon.socket)
    return node.post("/jobs", {"image": "base", "command": ["true"], "max_price": "1"})["id"]


def test_files_arrive_whole(daemon, job, tmp_path):
    data = bytes(range(256)) * 4096
    daemon.do(daemon.service.leave, job, "deep/é 1?#%", data)
    daemon.do(daemon.service.leave, job, "empty", b"")
    found = fetch_outputs(Connection(daemon.socket), job[:6], tmp_path / "new" / "out")
    assert [each["path"] for each in found] == ["deep/é 1?#%", "empty"]
    assert (tmp_path / "new" / "out" / "deep" / "é 1?#%").read_bytes() == data
    files = [each.name for each in (tmp_path / "new").rglob("*") if each.is_file()]
    assert sorted(files) == ["empty", "é 1?#%"]


def test_what_may_run_at_the_provider_may_run_here(daemon, job, tmp_path):
    for path in ("text", "tool"):
        daemon.do(daemon.service.leave, job, path, b"#!")
    files = daemon.service.files[job]
    files[1] = replace(files[1], executable=True)
    fetch_outputs(Connection(daemon.socket), job, tmp_path / "out")
    assert os.access(tmp_path / "out" / "tool", os.X_OK)
    assert (tmp_path / "out" / "text").stat().st_mode & 0o111 == 0


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/../../x"])
def test_a_path_that_would_leave_the_folder(daemon, job, tmp_path, path):
    daemon.do(daemon.service.leave, job, path, b"x")
    with pytest.raises(CliError, match="unsafe path"):
        fetch_outputs(Connection(daemon.socket), job, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_in_the_folder_is_not_followed_out(daemon, job, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "d").symlink_to(tmp_path)
    daemon.do(daemon.service.leave, job, "d/x", b"x")
    with pytest.raises(CliError, match="link that leads out"):
        fetch_outputs(Connection(daemon.socket), job, tmp_path / "out")
    assert not (tmp_path / "x").exists()


def test_all_files_take_two_requests(daemon, job, tmp_path, monkeypatch):
    for number in range(300):
        daemon.do(daemon.service.leave, job, f"d{number % 7}/{number}", b"%d" % number)
    asked = []
    asking = Connection._asking

    def counted(node, method, path, *more, **options):
        asked.append(path)
        return asking(node, method, path, *more, **options)

    monkeypatch.setattr(Connection, "_asking", counted)
    assert len(fetch_outputs(Connection(daemon.socket), job, tmp_path / "out")) == 300
    assert (tmp_path / "out" / "d1" / "8").read_bytes() == b"8"
    assert len(asked) == 2


def test_bytes_that_are_gone_are_told(daemon, job, tmp_path):
    daemon.do(daemon.service.leave, job, "a", b"x")
    for file in daemon.service.folder.glob("?" * 64):
        file.unlink()
    with pytest.raises(CliError, match="'a' is no longer stored here"):
        fetch_outputs(Connection(daemon.socket), job, tmp_path / "out")


def test_other_bytes_are_not_kept(daemon, job, tmp_path):
    daemon.do(daemon.service.leave, job, "a", b"x")
    files = daemon.service.files[job]
    files[0] = replace(files[0], digest=BASE)
    (daemon.service.folder / BASE).write_bytes(b"y")
    with pytest.raises(CliError, match="do not match its digest"):
        fetch_outputs(Connection(daemon.socket), job, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_cannot_be_made(daemon, job, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CliError, match="cannot write") as caught:
        fetch_outputs(Connection(daemon.socket), job, tmp_path / "file" / "out")
    assert caught.value.hint


def test_a_file_that_was_cut_short_is_told(daemon, job, tmp_path):
    daemon.do(daemon.service.leave, job, "a", bytes(100_000))
    for file in daemon.service.folder.glob("?" * 64):
        file.chmod(0o600)
        file.write_bytes(b"x")
    with pytest.raises(CliError, match="the node sent a broken archive"):
        fetch_outputs(Connection(daemon.socket), job, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
