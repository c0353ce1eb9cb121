"""Which names of the network a job asks to reach, and which of them an owner allows.

A job and an owner write names alike: `pypi.org`; `*.example.org`, every name below example.org but
not itself; the name of a set; or `any`, alone.

Spec: specs/egress.md#names.
"""

import re
from collections.abc import Iterable, Sequence
from enum import IntEnum
from hashlib import sha256
from typing import Final

ANY: Final = "any"
SETS: Final[dict[str, tuple[str, ...]]] = {
    "pypi": ("pypi.org", "files.pythonhosted.org"),
    "huggingface": ("huggingface.co", "*.huggingface.co", "*.hf.co"),
}
"""Names that are only of use together."""
NAMES_MAX: Final = 16
"""The most names of a job, sets expanded."""
NAME_BYTES_MAX: Final = 253
DOMAIN: Final = b"mutirao/egress/1\0"
MARK_BYTES: Final = 4
SUFFIXES_MAX: Final = 8
"""The most suffixes that the names of a job have."""
CLASS_BYTES_MAX: Final = MARK_BYTES * SUFFIXES_MAX
CLASS_OF_ANY: Final = b"*"
LABEL: Final = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
NAME: Final = re.compile(rf"(?:\*\.)?{LABEL}(?:\.{LABEL})*")


class Level(IntEnum):
    """How far jobs may reach."""

    NONE = 0
    LISTED = 1
    ANY = 2


def expanded(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names in lower case, each once, with every set replaced by its names."""
    lowered = (name.lower() for name in names)
    return tuple(dict.fromkeys(each for name in lowered for each in SETS.get(name, (name,))))


def faults_of(names: Sequence[str]) -> list[str]:
    """Return the errors of a job's expanded names, one line each."""
    if names == (ANY,):
        return []
    lines = [why for name in names if (why := _fault_of(name))]
    if len(names) > NAMES_MAX:
        lines.append(f"allow_net: {len(names)} names; a job has at most {NAMES_MAX}")
    elif not lines and len(suffixes := {_suffix_of(name) for name in names}) > SUFFIXES_MAX:
        lines.append(
            f"allow_net: names of {len(suffixes)} suffixes; a job has at most {SUFFIXES_MAX}"
        )
    return lines


def is_name(name: str) -> bool:
    """Return whether a name, in lower case, is that of a node of the network or of many."""
    if len(name) > NAME_BYTES_MAX or not NAME.fullmatch(name):
        return False
    top = name.rpartition(".")[2]
    return not top.isdigit() and (not name.startswith("*.") or name.count(".") > 1)


def level_of(names: Sequence[str]) -> Level:
    """Return the level that names of a job or of an owner amount to."""
    return Level.ANY if ANY in names else Level.LISTED if names else Level.NONE


def class_of(names: Sequence[str]) -> bytes:
    """Return what a call says of a job's names: nothing, any, or a mark of each suffix, sorted."""
    if ANY in names:
        return CLASS_OF_ANY
    return b"".join(sorted({_mark_of(name) for name in names}))


def level_of_class(marks: bytes) -> Level:
    """Return the level that a call asks for."""
    return Level.ANY if marks == CLASS_OF_ANY else Level.LISTED if marks else Level.NONE


def may_allow(owned: Sequence[str], marks: bytes) -> bool:
    """Return whether an owner who allows these names may allow those of a call.

    Only the names themselves decide; an owner without a name of a suffix can tell without them.
    """
    if ANY in owned or not marks:
        return True
    known = {_mark_of(name) for name in owned}
    starts = range(0, len(marks), MARK_BYTES)
    return all(marks[start : start + MARK_BYTES] in known for start in starts)


def refused(owned: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return those of a job's names that an owner does not allow."""
    return () if ANY in owned else tuple(name for name in wanted if not covers(owned, name))


def covers(names: Iterable[str], wanted: str) -> bool:
    """Return whether one of the names is the wanted one, or stands for it."""
    whole = wanted.removeprefix("*")
    return any(
        name in {ANY, wanted} or (name.startswith("*.") and whole.endswith(name[1:]))
        for name in names
    )


def _fault_of(name: str) -> str:
    if name == ANY:
        return "allow_net: any stands alone; leave the names out"
    if is_name(name):
        return ""
    return (
        f"allow_net: {name[:60]!r} is no name; give pypi.org, *.example.org, any, or one of "
        f"{', '.join(SETS)}"
    )


def _suffix_of(name: str) -> str:
    """Return the last two parts of a name, such as `example.org`."""
    return ".".join(name.split(".")[-2:])


def _mark_of(name: str) -> bytes:
    return sha256(DOMAIN + _suffix_of(name).encode()).digest()[:MARK_BYTES]
