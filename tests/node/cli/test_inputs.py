"""From paths to blobs. Spec: specs/rpc.md#inputs."""

import hashlib

import pytest

from node.cli.connection import Connection
from node.cli.failure import CliError
from node.cli.inputs import FILES_MAX, Found, find_inputs, upload_inputs


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set" / "deep").mkdir(parents=True)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "x:y").write_text("colon")
    (tmp_path / "set" / "1").write_text("1")
    (tmp_path / "set" / "deep" / "2").write_text("22")
    return tmp_path


@pytest.mark.parametrize(
    "given,paths",
    [
        (("a.txt",), ["a.txt"]),
        (("a.txt:b",), ["b"]),
        (("./set/deep/2",), ["2"]),
        (("set",), ["set/1", "set/deep/2"]),
        (("set/:d", "a.txt"), ["a.txt", "d/1", "d/deep/2"]),
        (("set/deep/..",), ["set/1", "set/deep/2"]),
        (("x:y",), ["x:y"]),
        (("x:y:z",), ["z"]),
        ((), []),
    ],
)
def test_paths(folder, given, paths):
    assert [each.path for each in find_inputs(given, folder)] == paths


@pytest.mark.parametrize(
    "given,why", [("none", "no such file"), ("a:b", "no such file"), ("void", "no files")]
)
def test_what_is_not_there(folder, given, why):
    (folder / "void").mkdir()
    with pytest.raises(CliError, match=why) as caught:
        find_inputs((given,), folder)
    assert caught.value.exit_code == 5


def test_too_many(folder):
    for number in range(FILES_MAX + 1):
        (folder / "set" / f"f{number}").touch()
    with pytest.raises(CliError, match="a job may have 256"):
        find_inputs(("set",), folder)


def test_upload(daemon, folder):
    told = []
    found = find_inputs(("set",), folder)
    blobs = upload_inputs(Connection(daemon.socket), found, told.append)
    assert [(each.path, each.size) for each in blobs] == [("set/1", 1), ("set/deep/2", 2)]
    assert blobs[1].digest == hashlib.sha256(b"22").hexdigest()
    assert daemon.service.blobs[blobs[1].digest] == b"22"
    assert told == ["input set/1", "input set/deep/2"]
    assert [each.executable for each in blobs] == [False, False]
    (folder / "set" / "1").chmod(0o700)
    (program, data) = upload_inputs(Connection(daemon.socket), found, print)
    assert (program.executable, data.executable) == (True, False)


def test_a_file_that_went_away_or_shrank(daemon, folder):
    node = Connection(daemon.socket)
    with pytest.raises(CliError, match="cannot read"):
        upload_inputs(node, (Found("g", folder / "gone"),), print)


def test_other_bytes_than_ours(folder):
    class Liar:
        def upload(self, path, chunks, size):
            return {"digest": "00", "size": size, "sent": [*chunks]}

    with pytest.raises(CliError, match="other bytes"):
        upload_inputs(Liar(), find_inputs(("a.txt",), folder), print)
