"""Files that are written into /out: by a process of its own, and never over what is there.

Spec: specs/sandbox.md#restored-files.
"""

import os

import pytest

from node.sandbox.runner import cgroups, restore
from node.sandbox.runner.container import StartFailed
from node.sandbox.runner.records import Fields

NO_GROUP = cgroups.Group({}, set())


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def fields_of(tmp_path, **files):
    pairs = []
    for name, (content, may_run) in files.items():
        (tmp_path / name).write_text(content)
        path = name.replace("__", "/")
        pairs.append(("restored", restore.line_of(path, str(tmp_path / name), may_run)))
    return Fields(pairs)


def test_files_are_copied_with_their_folders(out, tmp_path):
    fields = fields_of(tmp_path, a__b=("1", False), a__c__d=("2", True), empty=("", False))
    restore.restore(out, fields, NO_GROUP)
    found = {
        str(path.relative_to(tmp_path / "out")): (path.read_text(), path.stat().st_mode & 0o111 > 0)
        for path in (tmp_path / "out").rglob("*") if path.is_file()
    }  # fmt: skip
    assert found == {"a/b": ("1", False), "a/c/d": ("2", True), "empty": ("", False)}


def test_most_containers_have_none(out):
    restore.restore(out, Fields([]), NO_GROUP)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_they_belong_to_the_jobs_user(out, tmp_path):
    (tmp_path / "out").chmod(0o777)
    fields = fields_of(tmp_path, a__b=("1", False))
    fields.pairs.append(("uid", "65532"))
    restore.restore(out, fields, NO_GROUP)
    owners = {path.stat().st_uid for path in (tmp_path / "out").rglob("*")}
    assert owners == {65532}
    assert os.geteuid() == 0


@pytest.mark.parametrize("what", ["link", "file", "missing"])
def test_nothing_is_followed_or_replaced(out, tmp_path, what):
    fields = fields_of(tmp_path, a__b=("1", False))
    if what == "link":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    elif what == "file":
        (tmp_path / "out" / "a").mkdir()
        (tmp_path / "out" / "a" / "b").write_text("here")
    else:
        (tmp_path / "a__b").unlink()
    with pytest.raises(StartFailed, match="cannot be restored"):
        restore.restore(out, fields, NO_GROUP)
    assert not list(tmp_path.glob("elsewhere/*"))


def test_what_the_kernel_kills_does_not_fit(out, tmp_path, monkeypatch):
    monkeypatch.setattr(restore, "_write", lambda *_: os.kill(os.getpid(), 9))
    with pytest.raises(StartFailed, match="does not fit"):
        restore.restore(out, fields_of(tmp_path, a=("1", False)), NO_GROUP)
