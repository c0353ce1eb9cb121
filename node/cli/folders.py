"""A folder that becomes an input: what is in it, what is left out, and what cannot be sent.

Spec: specs/inputs.md.
"""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from node.cli.excludes import DEFAULTS, Excludes
from node.cli.failure import CliError
from node.cli.output import bytes_of, plain
from node.data.pack_writer import PackEntry, stays_inside

ENTRIES_MAX: Final = 1_000_000
DEPTH_MAX: Final = 128
"""Providers refuse packs beyond these."""
TOLD_MAX: Final = 3
"""The most names in one line."""
HINT: Final = "leave them out with --exclude (`exclude` in a job file)"


@dataclass(slots=True)
class FolderScan:
    """The content of a folder, in the order of a pack."""

    entries: list[PackEntry] = field(default_factory=list)
    size: int = 0
    """Bytes of its files."""
    left_out: Counter[str] = field(default_factory=Counter)
    """How much each pattern left out; a folder counts once."""
    skipped: list[str] = field(default_factory=list)
    """Sockets, pipes and devices."""
    faults: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return what the user should know."""
        files = sum(each.kind != "folder" for each in self.entries)
        lines = [f"{files} file{'' if files == 1 else 's'}, {bytes_of(self.size)}"]
        defaults = sorted(self.left_out.keys() & set(DEFAULTS))
        if defaults:
            lines.append(f"without {', '.join(defaults)} (--no-default-excludes keeps them)")
        if others := sum(self.left_out.values()) - sum(self.left_out[each] for each in defaults):
            lines.append(f"{others} left out by patterns")
        if self.skipped:
            lines.append(f"without sockets, pipes and devices: {_told(self.skipped)}")
        return lines


def scan_folder(folder: Path, excludes: Excludes) -> FolderScan:
    """Return what of a folder is sent.

    Raises CliError if anything cannot be sent as it is: then nothing is.
    """
    scan = FolderScan()
    try:
        _scan(scan, (os.path.realpath(folder), excludes), "", 0)
    except OSError as error:
        why = f"cannot read {error.filename}: {error.strerror}"
        raise CliError("invalid-request", why, HINT) from None
    if scan.faults:
        raise CliError("invalid-request", _told(scan.faults), HINT)
    return scan


def _scan(scan: FolderScan, root: tuple[str, Excludes], inner: str, depth: int) -> None:
    folder, excludes = root
    with os.scandir(f"{folder}/{inner}") as found:
        ordered = sorted(found, key=lambda each: os.fsencode(each.name))
    for each in ordered:
        path = f"{inner}{each.name}"
        is_folder = each.is_dir(follow_symlinks=False)
        if pattern := excludes.excluding(path, is_folder=is_folder):
            scan.left_out[pattern] += 1
        elif fault := _fault_of(each.name, depth):
            scan.faults.append(f"{plain(ascii(path)[1:-1])}: {fault}")
        elif is_folder:
            scan.entries.append(PackEntry(path, "folder"))
            _scan(scan, root, f"{path}/", depth + 1)
        else:
            _add(scan, folder, path, each)
    if len(scan.entries) > ENTRIES_MAX:
        why = f"{folder} has more than {ENTRIES_MAX} files"
        raise CliError("invalid-request", why, "pack them into an archive that the job unpacks")


def _fault_of(name: str, depth: int) -> str:
    """Return why nothing of this name can be sent, "" if it can."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return f"deeper than {DEPTH_MAX} folders" if depth >= DEPTH_MAX else ""


def _add(scan: FolderScan, folder: str, path: str, found: os.DirEntry[str]) -> None:
    status = found.stat(follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        link = os.readlink(found.path)  # noqa: PTH115 - as text.
        if fault := _fault_of_link(folder, path, link):
            scan.faults.append(f"{plain(path)}: {fault}")
        else:
            scan.entries.append(PackEntry(path, "symbolic link", link=link))
    elif stat.S_ISREG(status.st_mode):
        executable = bool(status.st_mode & stat.S_IXUSR)
        scan.entries.append(PackEntry(path, "file", status.st_size, executable))
        scan.size += status.st_size
    else:
        scan.skipped.append(plain(path))


def _fault_of_link(folder: str, path: str, link: str) -> str:
    """Return why a link cannot be sent, "" if it can: it must mean the same in the container."""
    target = os.path.realpath(f"{folder}/{path}")
    if not stays_inside(path, link) or not f"{target}/".startswith(f"{folder}/"):
        return f"the link leads out of the folder, to {plain(ascii(link)[1:-1])}"
    return _fault_of(link, 0)


def _told(lines: list[str]) -> str:
    more = len(lines) - TOLD_MAX
    return "; ".join(lines[:TOLD_MAX]) + (f"; and {more} more" if more > 0 else "")
