"""The stage on which a job's user finds what it may see.

Spec: specs/sandbox.md#root.
"""

import os
from pathlib import Path

import pytest

from node.sandbox.runner.staging import Staging


def test_an_ordinary_user_gets_the_path_back(tmp_path):
    assert Staging([str(tmp_path)], hidden=False).place(str(tmp_path)) == str(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_user_reaches_what_was_placed_and_nothing_else(tmp_path):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "folder").mkdir(mode=0o755)
    (private / "folder" / "file").write_text("seen")
    (private / "blob").write_text("blob")
    before = Path("/proc/self/mounts").read_text()
    child = os.fork()
    if child == 0:
        right = False
        try:
            paths = [str(private / "folder"), str(private / "blob")]
            stage = Staging(paths, hidden=True)
            folder, blob = (stage.place(path) for path in paths)
            os.setresuid(1234, 1234, 1234)
            right = Path(folder, "file").read_text() == "seen"
            right = right and Path(blob).read_text() == "blob"
            right = right and not os.access(paths[1], os.R_OK)
        finally:
            os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert Path("/proc/self/mounts").read_text() == before
