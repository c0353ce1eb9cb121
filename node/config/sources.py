"""The sources of settings, their order, and the origin of each value for error messages.

The key of a setting consists of its section and its name, such as `provider.cpus`.
Spec: specs/configuration.md#sources.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, get_args, get_type_hints

from node.config.convert import Unfit, choice, convert, nearest
from node.config.sections import About, Config, ConfigError
from node.config.toml_lines import line_of
from node.paths import PREFIX, data_home, find_files

NO_FLAGS: Final[Mapping[str, object]] = MappingProxyType({})
VALUE_SHOWN_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective setting, for `mutirao config`."""

    key: str
    value: object
    origin: str
    """Where it was set: a file and line, a variable, a flag, or "default"."""
    what: str
    """Its meaning."""


@dataclass(frozen=True, slots=True)
class _Given:
    value: object
    origin: str


DEFAULT: Final = _Given(None, "default")

_Known = Mapping[str, tuple[Any, About]]
"""Type and meaning by key."""


def load_config(
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, object] = NO_FLAGS,
) -> Config:
    """Return the configuration; ConfigError states in one line what is wrong and where.

    `file` replaces the system's and the user's file and must exist. `flags` maps keys to values;
    None means not given.
    """
    return _build(_gather(file, environment, flags))


def explain_config(
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, object] = NO_FLAGS,
) -> tuple[Setting, ...]:
    """Return every setting with its value, its origin and its meaning; raises as `load_config`."""
    given = _gather(file, environment, flags)
    config = _build(given)
    return tuple(
        Setting(key, _value_of(config, key), given.get(key, DEFAULT).origin, about.text)
        for key, (_, about) in _known().items()
    )


def values_of(config: Config) -> dict[str, object]:
    """Return the value of every setting by its key."""
    return {key: _value_of(config, key) for key in _known()}


def _gather(
    file: Path | None, environment: Mapping[str, str], flags: Mapping[str, object]
) -> dict[str, _Given]:
    """Return the given values by key; the last source of each key counts."""
    given = {"data_dir": _Given(data_home(environment), "default")}
    for path in find_files(file, environment):
        given |= _from_file(path, required=file is not None)
    for name, value in environment.items():
        if name.startswith(PREFIX):
            key = name.removeprefix(PREFIX).lower().replace("__", ".")
            given[key] = _Given(value, f"${name}")
    for key, flag in flags.items():
        if flag is not None:
            given[key] = _Given(flag, "command line")
    return given


def _from_file(path: Path, *, required: bool) -> dict[str, _Given]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: there is no such file") from None
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    import tomllib  # noqa: PLC0415 - Every command reads the configuration; few have a file.

    try:
        tables = tomllib.loads(text, parse_float=Decimal)  # 0.1 stays exact.
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    return {key: _Given(value, _place(path, text, key)) for key, value in _flat(tables)}


def _flat(tables: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    for name, value in tables.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _place(path: Path, text: str, key: str) -> str:
    """Return file and line of a key; only the file if it is written in an unusual way."""
    line = line_of(text, key)
    return f"{path}, line {line}" if line else str(path)


def _build(given: Mapping[str, _Given]) -> Config:
    known = _known()
    values: dict[str, Any] = {}
    for key, one in given.items():
        if key not in known:
            raise ConfigError(f"{one.origin}: {key}: {_unknown(key, tuple(known))}")
        values[key] = _converted(key, one, *known[key])
    arguments = {key: value for key, value in values.items() if "." not in key}
    for name, section in get_type_hints(Config).items():
        if isinstance(section, type) and is_dataclass(section):
            arguments[name] = section(**_within(name, values))
    return Config(**arguments)


def _within(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    before = section + "."
    return {k.removeprefix(before): value for k, value in values.items() if k.startswith(before)}


def _converted(key: str, given: _Given, wanted: Any, about: About) -> Any:
    shown = f"{given.origin}: {key}: {_shown(given.value)[:VALUE_SHOWN_MAX]} should be"
    try:
        if about.choices:
            return choice(given.value, about.choices)
        value = convert(given.value, wanted)
    except Unfit as error:
        raise ConfigError(f"{shown} {error}") from error
    if isinstance(value, int) and value < about.least:
        raise ConfigError(f"{shown} {about.least} or more")
    if isinstance(value, int) and about.most is not None and value > about.most:
        raise ConfigError(f"{shown} {about.most} or less")
    return value


def _shown(value: object) -> str:
    """Return a value as the user gave it; all values of a repeated flag."""
    return ", ".join(map(repr, value)) if isinstance(value, list | tuple) else repr(value)


def _unknown(key: str, known: tuple[str, ...]) -> str:
    if _within(key, dict.fromkeys(known)):
        return f"this is a section: write [{key}] and its settings below"
    name = key.rpartition(".")[2]
    elsewhere = tuple(other for other in known if other.rpartition(".")[2] == name)
    hint = f" (did you mean {elsewhere[0]!r}?)" if elsewhere else nearest(key, known)
    return f"there is no such setting{hint}"


def _known() -> _Known:
    """Return type and meaning of every setting, in the order they are declared."""
    known: dict[str, tuple[Any, About]] = {}
    for name, hint in get_type_hints(Config, include_extras=True).items():
        if is_dataclass(hint):
            inner = get_type_hints(hint, include_extras=True)
            known |= {f"{name}.{one.name}": get_args(inner[one.name]) for one in fields(hint)}
        else:
            known[name] = get_args(hint)
    return known


def _value_of(config: Config, key: str) -> object:
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    return value
