"""What of a folder is not sent: patterns in the manner of .gitignore.

Spec: specs/inputs.md#excludes.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from node.cli.failure import CliError

IGNORE_FILE: Final = ".mutiraoignore"
DEFAULTS: Final = (".git", "__pycache__", ".venv")
"""Left out unless the user wants them: large, of no use to a job, or bound to this machine."""
PARTS: Final = re.compile(r"\*\*/|/\*\*$|\*+|\?|\[[^\]/]+\]|.", re.DOTALL)


class Excludes:
    """Patterns of which the last that fits decides; one with `!` keeps what it fits."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._rules = [
            (text, _regex_of(text)) for each in patterns if (text := each.rstrip("\r\n "))
            and not text.startswith("#")
        ]  # fmt: skip

    def excluding(self, path: str, *, is_folder: bool) -> str:
        """Return the pattern that leaves a path out, "" if it is kept."""
        name = f"{path}/" if is_folder else path
        for text, regex in reversed(self._rules):
            if regex.fullmatch(name):
                return "" if text.startswith("!") else text
        return ""


def excludes_of(folder: Path, given: Iterable[str], *, defaults: bool) -> Excludes:
    """Return the patterns for a folder: the defaults, those of its file, and the user's.

    Raises CliError if the folder's file cannot be read.
    """
    file = folder / IGNORE_FILE
    try:
        lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise CliError("invalid-request", f"cannot read {file}: {why}") from None
    return Excludes([*(DEFAULTS if defaults else ()), *lines, *given])


def _regex_of(text: str) -> re.Pattern[str]:
    """Return what fits a path, which ends with a slash if it is a folder's."""
    pattern = text.removeprefix("!")
    only_folders, pattern = pattern.endswith("/"), pattern.rstrip("/")
    anchored = "/" in pattern
    pattern = pattern.removeprefix("/")
    regex = "".join(map(_regex_of_part, PARTS.findall(pattern)))
    return re.compile(f"{'' if anchored else '(?:.*/)?'}{regex}{'/' if only_folders else '/?'}",
                      re.DOTALL)  # fmt: skip


def _regex_of_part(part: str) -> str:
    match part:
        case "**/":
            return "(?:.*/)?"
        case "/**":
            return "/.+"
        case "?":
            return "[^/]"
        case _ if set(part) == {"*"}:
            return "[^/]*"
        case _ if part.startswith("[") and len(part) > 2:
            inner = part[1:-1].replace("\\", "\\\\")
            return f"[^{inner[1:]}/]" if inner[0] in "!^" and inner[1:] else f"[{inner}]"
        case _:
            return re.escape(part)
