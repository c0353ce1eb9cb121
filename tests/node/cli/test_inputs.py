"""From paths to blobs. Spec: specs/inputs.md."""

import hashlib
import io
import tarfile

import pytest

from node.cli import inputs
from node.cli.connection import Connection
from node.cli.draft import Draft
from node.cli.failure import CliError
from node.cli.inputs import INPUTS_MAX, Found, find_inputs, upload_inputs
from node.cli.progress import LiveLine, Silence


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set" / "deep").mkdir(parents=True)
    (tmp_path / "void").mkdir()
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "x:y").write_text("colon")
    (tmp_path / "set" / "1").write_text("1")
    (tmp_path / "set" / "deep" / "2").write_text("22")
    return tmp_path


class Notes(Silence):
    """Keeps the lines that stay."""

    def __init__(self):
        self.lines = []

    def note(self, line):
        self.lines.append(line)


def find(folder, *given, **more):
    return find_inputs(Draft("base", ("x",), inputs=given, **more), folder)


@pytest.mark.parametrize(
    "given,paths,workdir",
    [
        (("a.txt",), ["a.txt"], None),
        (("a.txt:b",), ["b"], None),
        (("./set/deep/2",), ["2"], None),
        (("set",), ["set"], "/in/set"),
        (("set/", "a.txt"), ["a.txt", "set"], "/in/set"),
        (("set/:d", "a.txt"), ["a.txt", "d"], None),
        (("set/:d", "void"), ["d", "void"], "/in/void"),
        (("set", "void"), ["set", "void"], None),
        (("set/deep/..",), ["set"], "/in/set"),
        (("x:y",), ["x:y"], None),
        (("x:y:z",), ["z"], None),
        ((), [], None),
    ],
)
def test_paths_and_the_working_folder(folder, given, paths, workdir):
    found, draft = find(folder, *given)
    assert ([each.path for each in found], draft.workdir) == (paths, workdir)


@pytest.mark.parametrize("workdir", ["/in/set", "/in/set/deep", "/in/a", "/in", "/tmp", "/out/x"])
def test_a_working_folder_that_is_there_or_the_images(folder, workdir):
    _, draft = find(folder, "set", "a.txt:a/b/c", workdir=workdir)
    assert draft.workdir == workdir


@pytest.mark.parametrize("workdir", ["/in/se", "/in/set/1", "/in/a/b/c", "/in/set/no"])
def test_a_working_folder_that_no_input_has(folder, workdir):
    with pytest.raises(CliError, match="none of the inputs has this folder") as caught:
        find(folder, "set", "a.txt:a/b/c", workdir=workdir)
    assert "--workdir" in caught.value.hint


@pytest.mark.parametrize("given,why", [
    ("none", "no such file"), ("a:b", "no such file"), ("/dev/null", "neither a file nor a folder"),
])  # fmt: skip
def test_what_is_not_there(folder, given, why):
    with pytest.raises(CliError, match=why) as caught:
        find(folder, given)
    assert caught.value.exit_code == 5


def test_too_many(folder):
    with pytest.raises(CliError, match="a job may have 256"):
        find(folder, *["a.txt"] * (INPUTS_MAX + 1))


def test_upload(daemon, folder):
    told = Notes()
    (folder / "set" / ".git").mkdir()
    found, _ = find(folder, "set", "a.txt")
    (file, pack) = upload_inputs(Connection(daemon.socket), found, told)
    assert (file.path, file.size, file.executable, file.pack) == ("a.txt", 1, False, False)
    assert file.digest == hashlib.sha256(b"a").hexdigest()
    assert daemon.service.blobs[file.digest] == b"a"
    assert (pack.path, pack.pack) == ("set", True)
    with tarfile.open(fileobj=io.BytesIO(daemon.service.blobs[pack.digest])) as archive:
        assert archive.getnames() == ["1", "deep", "deep/2"]
    assert told.lines == [
        "input set: 2 files, 3 B; without .git (--no-default-excludes keeps them)"
    ]
    (folder / "a.txt").chmod(0o700)
    assert upload_inputs(Connection(daemon.socket), found[:1], Silence())[0].executable


@pytest.mark.parametrize("given", ["/", "set:..", "set:a//b", "a.txt:/x"])
def test_a_name_that_is_no_path_is_refused_before_anything_is_read(folder, given):
    with pytest.raises(CliError, match="no name that is a path below /in") as caught:
        find(folder, given)
    assert "PATH:NAME" in caught.value.hint


def test_a_terminal_shows_how_much_was_sent(daemon, folder, monkeypatch):
    shown = []
    monkeypatch.setattr(LiveLine, "update", lambda _, line: shown.append(line))
    (folder / "a.txt").write_bytes(bytes(2**20))
    found, _ = find(folder, "a.txt")
    upload_inputs(Connection(daemon.socket), found, LiveLine(beside_log=False))
    assert shown == [f"sending input a.txt: {percent} % of 1.0 MiB" for percent in (0, 25, 50, 75)]


def test_what_is_excluded_is_the_users_to_say(folder):
    (folder / "set" / ".venv").touch()
    everything, _ = find(folder, "set", default_excludes=False, exclude=("deep",))
    assert [each.path for each in everything[0].scan.entries] == [".venv", "1"]


def test_a_file_that_went_away_or_changed(daemon, folder):
    node = Connection(daemon.socket)
    with pytest.raises(CliError, match="cannot read"):
        upload_inputs(node, (Found("g", folder / "gone"),), Silence())
    found, _ = find(folder, "set")
    (folder / "set" / "1").write_text("more")
    with pytest.raises(CliError, match="input set: 1 changed while it was read"):
        upload_inputs(node, found, Silence())
    (folder / "set" / "1").unlink()
    with pytest.raises(CliError, match=r"input set: cannot read .*set/1: No such file"):
        upload_inputs(node, found, Silence())


def test_other_bytes_than_ours(folder):
    class Liar:
        def upload(self, path, chunks, size):
            return {"digest": "00", "size": size, "sent": [*chunks]}

    with pytest.raises(CliError, match="other bytes"):
        upload_inputs(Liar(), find(folder, "a.txt")[0], Silence())


def test_a_large_file_is_used_where_it_lies(folder, daemon, monkeypatch):
    monkeypatch.setattr(inputs, "LINKED_BYTES_MIN", 2)
    node, uploaded = Connection(daemon.socket), []
    monkeypatch.setattr(node, "upload", lambda *_: uploaded.append(1))
    (folder / "a.txt").write_text("large")
    found, _ = find(folder, "a.txt")
    (large,) = upload_inputs(node, found, Silence())
    assert large.digest == hashlib.sha256(b"large").hexdigest()
    assert (large.size, uploaded) == (5, [])


@pytest.mark.parametrize("code", ["invalid-request", "not-found"])
def test_a_file_that_the_node_cannot_read_is_uploaded(folder, daemon, monkeypatch, code):
    def refuse(*_args, **_more):
        raise CliError(code, "cannot read it")

    monkeypatch.setattr(inputs, "LINKED_BYTES_MIN", 0)
    node = Connection(daemon.socket)
    monkeypatch.setattr(node, "post", refuse)
    found, _ = find(folder, "a.txt")
    (small,) = upload_inputs(node, found, Silence())
    assert small.digest == hashlib.sha256(b"a").hexdigest()
