"""Trees that are hard to remove.

Spec: specs/disk.md#folder.
"""

import os
from contextlib import chdir

import pytest

from node.sandbox.removal import remove_tree
from tests.ordinary_user import folder_of_user, run_as_user

DEEP = """
import os, sys
from pathlib import Path
from node.sandbox.removal import remove_tree
tree = Path(sys.argv[1]) / "tree"
(tree / "shut" / "inner").mkdir(parents=True)
(tree / "shut" / "inner" / "file").touch()
for name in ("shut/inner", "shut"):
    (tree / name).chmod(0)
remove_tree(tree)
print(tree.exists())
"""


def test_a_tree_that_is_deeper_than_a_path_is_long(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").touch()
    with chdir(tree):
        for _ in range(1500):
            os.mkdir("deep")  # noqa: PTH102 - its path is too long.
            os.chdir("deep")
        with open("file", "w") as file:  # noqa: PTH123
            file.write("x")
    remove_tree(tree)
    assert not list(tmp_path.iterdir())


def test_links_are_removed_and_not_followed(tmp_path):
    (tmp_path / "other").mkdir(mode=0o500)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(tmp_path / "other")
    os.mkfifo(tree / "pipe")
    remove_tree(tree)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o500


def test_a_tree_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        remove_tree(tmp_path / "none")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_folders_that_are_closed_to_their_owner():
    with folder_of_user() as place:
        done = run_as_user(DEEP, str(place))
    assert (done.stdout, done.stderr) == ("False\n", "")
