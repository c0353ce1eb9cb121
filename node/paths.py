"""The default paths of a node's files, by the XDG base directory specification.

Separate from node/config, so a command finds the daemon without importing all settings, which is a
fifth of its run time.
Spec: specs/configuration.md#sources.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SYSTEM_FILE: Final = Path("/etc/mutirao/config.toml")
PREFIX: Final = "MUTIRAO_"
"""Environment variables with this prefix are settings."""


def data_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for this user's data."""
    return xdg_folder("XDG_DATA_HOME", ".local/share", environment)


def find_files(
    file: Path | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[Path, ...]:
    """Return the configuration files to read if they exist; later ones override earlier ones.

    `file` replaces all others.
    """
    if file is not None:
        return (file,)
    user_file = xdg_folder("XDG_CONFIG_HOME", ".config", environment) / "config.toml"
    return (SYSTEM_FILE, user_file)


def is_configured(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a file or variable may contain settings; if not, the defaults apply."""
    variables = any(name.startswith(PREFIX) for name in environment)
    return variables or any(map(_is_there, find_files(None, environment)))


def xdg_folder(variable: str, default: str, environment: Mapping[str, str]) -> Path:
    """Return our folder in one of the base folders of the XDG specification."""
    value = environment.get(variable, "")
    if value.startswith("/"):  # The specification ignores relative paths.
        return Path(value) / "mutirao"
    home = environment.get("HOME", "")
    return (Path(home) if home.startswith("/") else Path.home()) / default / "mutirao"


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # Reading it will report the error.
        return True
    return True
