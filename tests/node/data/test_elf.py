"""The libraries that we read from a file are those that the loader takes.

Spec: specs/data.md#base-image.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from node.data.elf import closure, library_folders, read_linkage, soname_of

PYTHON = Path(sys.executable).resolve()
PROGRAMS = [PYTHON, *(Path(p).resolve() for name in ("sh", "ls") if (p := shutil.which(name)))]


@pytest.mark.skipif(shutil.which("ldd") is None, reason="there is no ldd to compare with")
@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_the_loader_agrees(program: Path) -> None:
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in said.splitlines() if "/" in line]
    expected = {line[0]: Path(line[2] if "=>" in line else line[0]) for line in lines}
    found = closure(program, library_folders())
    assert found.keys() == expected.keys()
    for name, path in found.items():
        assert path.samefile(expected[name])


def test_what_is_no_program_needs_nothing(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert read_linkage(tmp_path / "script") is None
    assert closure(tmp_path / "script", ()) == {}


def test_a_missing_library_is_named() -> None:
    program = PROGRAMS[-1]
    linkage = read_linkage(program)
    if linkage is None or linkage.search:
        pytest.skip("the program at hand finds its libraries by itself")
    with pytest.raises(FileNotFoundError, match=r"needs the library lib.*not installed"):
        closure(program, ())


def test_a_library_says_what_it_is_looked_for_by(tmp_path: Path) -> None:
    libraries = closure(PYTHON, library_folders())
    name, path = next(item for item in libraries.items() if item[0].startswith("libc.so"))
    assert soname_of(path) == name
    assert soname_of(PYTHON) is None
    (tmp_path / "empty").touch()
    assert soname_of(tmp_path / "empty") is None
