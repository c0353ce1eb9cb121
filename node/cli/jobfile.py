"""Parses a job from a TOML file; for a misspelt key the error names the line and nearest key.

Spec: specs/rpc.md#job-file.
"""

import difflib
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from node.cli.draft import Draft
from node.cli.failure import CliError
from protocol.values.quantities import mib_of, ms_of, us_of


def read_job_file(path: Path) -> Draft:
    """Return the job in the file; CliError names the file, the line and the key at fault."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise CliError("invalid-request", f"cannot read {path}: {reason}") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CliError("invalid-request", f"{path}: {error}", EXAMPLE) from None
    return _Reader(path, text).draft(table)


def key_of_field() -> dict[str, str]:
    """Return how each field of a Draft is written in a file: {"memory_mib": "memory"}."""
    return {key.field: name for name, key in (TOP | RESOURCES).items()}


@dataclass(frozen=True, slots=True)
class _Key:
    """One key of the file: its name in a Draft, and the parser of its value."""

    field: str
    read: Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("give text in quotes")  # noqa: TRY004 - one kind of fault for the reader.
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("give a whole number")  # noqa: TRY004
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError('give a list of texts, such as ["a", "b"]')  # noqa: TRY004
    return tuple(_text(item) for item in value)


def _size(value: Any) -> int:
    return mib_of(str(value))


def _duration(value: Any) -> int:
    return ms_of(str(value))


def _round_trip(value: Any) -> int:
    return us_of(str(value))


def _price(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError('give credits an hour, such as "0.50"')  # noqa: TRY004
    return str(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("give true or false")  # noqa: TRY004
    return value


def _variables(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise ValueError("give a table of texts")  # noqa: TRY004
    return tuple((name, _text(text)) for name, text in value.items())


def _array(value: Any) -> str:
    """Return the table [array], or text such as "0-99%20", as the text."""
    if not isinstance(value, dict):
        return _text(value)
    for name in value:
        if name not in ARRAY:
            raise ValueError(f"{name}: unknown key{_nearest(name, ARRAY)}")
    if "indices" not in value:
        raise ValueError('indices is missing, such as indices = "0-99"')
    limit = f"%{_number(value['max_running'])}" if "max_running" in value else ""
    return _text(value["indices"]) + limit


ARRAY: Final = ("indices", "max_running")
TOP: Final[dict[str, _Key]] = {
    "name": _Key("name", _text),
    "image": _Key("image", _text),
    "command": _Key("command", _texts),
    "inputs": _Key("inputs", _texts),
    "exclude": _Key("exclude", _texts),
    "default_excludes": _Key("default_excludes", _flag),
    "workdir": _Key("workdir", _text),
    "timeout": _Key("timeout_ms", _duration),
    "max_price": _Key("max_price", _price),
    "cap_percent": _Key("cap_percent", _number),
    "profile": _Key("profile", _text),
    "region": _Key("region", _text),
    "retries": _Key("retries", _number),
    "retry_on_exit": _Key("retry_on_exit", _number),
    "queue_timeout": _Key("queue_ms", _duration),
    "priority": _Key("priority", _number),
    "drivers": _Key("drivers", _texts),
    "hard_limits": _Key("hard_limits", _flag),
    "allow_net": _Key("allow_net", _texts),
    "where": _Key("where", _text),
    "isolation": _Key("isolation", _text),
    "checkpoint": _Key("checkpoint", _text),
    "checkpoint_every": _Key("checkpoint_ms", _duration),
    "array": _Key("array", _array),
    "nodes": _Key("nodes", _number),
    "same_region": _Key("same_region", _flag),
    "spread_regions": _Key("spread_regions", _flag),
    "max_round_trip": _Key("max_round_trip_us", _round_trip),
    "start_percent": _Key("start_percent", _number),
    "env": _Key("env", _variables),
    "pull": _Key("pull", _text),
}
RESOURCES: Final[dict[str, _Key]] = {
    "cpus": _Key("cpus", _number),
    "memory": _Key("memory_mib", _size),
    "disk": _Key("disk_mib", _size),
    "disk_in_memory": _Key("disk_in_memory", _flag),
    "gpus": _Key("gpus", _number),
    "gpu_class": _Key("gpu_class", _text),
    "vram": _Key("vram_mib", _size),
    "shm": _Key("shm_mib", _size),
    "output": _Key("output_mib", _size),
    "log": _Key("log_mib", _size),
    "processes": _Key("processes", _number),
}
SECTION: Final = "resources"
REQUIRED: Final = ("image", "command")
EXAMPLE: Final = 'the least that works: image = "base" and command = ["true"]'


@dataclass(frozen=True, slots=True)
class _Reader:
    path: Path
    text: str

    def draft(self, table: dict[str, Any]) -> Draft:
        inner = table.pop(SECTION, {})
        if not isinstance(inner, dict):
            raise self._failure(SECTION, "give a table: [resources]")
        values = self._values(table, TOP, (*TOP, SECTION)) | self._values(
            inner, RESOURCES, tuple(RESOURCES)
        )
        for name in REQUIRED:
            if name not in values:
                raise CliError("invalid-request", f"{self.path}: {name} is missing", EXAMPLE)
        return Draft(**values)

    def _values(
        self, table: dict[str, Any], keys: dict[str, _Key], known: tuple[str, ...]
    ) -> dict[str, Any]:
        values = {}
        for name, value in table.items():
            if name not in keys:
                raise self._failure(name, f"unknown key{_nearest(name, known)}")
            try:
                values[keys[name].field] = keys[name].read(value)
            except ValueError as error:
                raise self._failure(name, str(error)) from None
        return values

    def _failure(self, name: str, why: str) -> CliError:
        key = re.compile(rf"\s*(\[\s*)?[\"']?{re.escape(name)}[\"']?\s*[=.\]]")
        lines = self.text.splitlines()
        at = [f":{number}" for number, line in enumerate(lines, 1) if key.match(line)]
        return CliError("invalid-request", f"{self.path}{at[0] if at else ''}: {name}: {why}")


def _nearest(name: str, known: tuple[str, ...]) -> str:
    if name in RESOURCES:
        return f"; it belongs in [{SECTION}]"
    if close := difflib.get_close_matches(name, known, 1, 0.5):
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(known)}"
