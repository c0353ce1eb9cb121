"""What of a folder is not sent. Spec: specs/inputs.md#excludes."""

import pytest

from node.cli.excludes import Excludes, excludes_of
from node.cli.failure import CliError


@pytest.mark.parametrize(
    "pattern, path, out",
    [
        ("*.ckpt", "a.ckpt", True),
        ("*.ckpt", "d/a.ckpt", True),
        ("*.ckpt", "a.ckpt2", False),
        ("data", "data/", True),
        ("data/", "data/", True),
        ("data/", "data", False),
        ("data/", "d/data/", True),
        ("/data", "data", True),
        ("/data", "d/data", False),
        ("d/data", "d/data", True),
        ("d/data", "e/d/data", False),
        ("**/data", "e/d/data", True),
        ("d/**", "d/e/f", True),
        ("d/**", "d/", False),
        ("d/**/f", "d/f", True),
        ("d/**/f", "d/a/b/f", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("*", "a/b", True),
        ("[ab]c", "bc", True),
        ("[!ab]c", "bc", False),
        ("[!ab]c", "xc", True),
        ("a.c", "abc", False),
        ("[", "[", True),
        ("# no", "# no", False),
        ("", "a", False),
    ],
)
def test_patterns(pattern, path, out):
    name = path.rstrip("/")
    found = Excludes([pattern]).excluding(name, is_folder=path.endswith("/"))
    assert found == (pattern if out else "")


def test_the_last_pattern_that_fits_decides():
    excludes = Excludes(["*.bin", "!keep.bin"])
    assert excludes.excluding("a.bin", is_folder=False) == "*.bin"
    assert excludes.excluding("keep.bin", is_folder=False) == ""
    assert Excludes(["!keep.bin", "*.bin"]).excluding("keep.bin", is_folder=False)


def test_defaults_then_the_folders_file_then_the_users(tmp_path):
    (tmp_path / ".mutiraoignore").write_text("# comment\n*.log\n!.git\n")
    excludes = excludes_of(tmp_path, ["!a.log"], defaults=True)
    out = {
        name: excludes.excluding(name, is_folder=False)
        for name in ("a.log", "b.log", ".git", ".venv")
    }
    assert out == {"a.log": "", "b.log": "*.log", ".git": "", ".venv": ".venv"}
    assert not excludes_of(tmp_path, (), defaults=False).excluding(".venv", is_folder=True)


def test_a_file_of_patterns_that_is_no_text(tmp_path):
    (tmp_path / ".mutiraoignore").write_bytes(b"\xff")
    with pytest.raises(CliError, match="it is not UTF-8"):
        excludes_of(tmp_path, (), defaults=True)
