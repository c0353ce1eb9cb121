"""Where a node's files are if nobody says otherwise, by the XDG base directory specification.

Apart from node/config so that a command finds the daemon without the import of all settings, which
is a fifth of its time.
Spec: specs/configuration.md#sources.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SYSTEM_FILE: Final = Path("/etc/mutirao/config.toml")
PREFIX: Final = "MUTIRAO_"
"""Variables of the environment that begin with this are settings."""


def data_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for this user's data."""
    return xdg_folder("XDG_DATA_HOME", ".local/share", environment)


def find_files(
    file: Path | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[Path, ...]:
    """Return the files that settings are read from, if they are there; the later ones win.

    `file` takes the place of all others.
    """
    if file is not None:
        return (file,)
    user_file = xdg_folder("XDG_CONFIG_HOME", ".config", environment) / "config.toml"
    return (SYSTEM_FILE, user_file)


def is_configured(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether a file or a variable may have set anything: if not, the defaults hold."""
    variables = any(name.startswith(PREFIX) for name in environment)
    return variables or any(map(_is_there, find_files(None, environment)))


def xdg_folder(variable: str, default: str, environment: Mapping[str, str]) -> Path:
    """Return our folder in one of the base folders of the XDG specification."""
    value = environment.get(variable, "")
    if value.startswith("/"):  # A relative one is to be ignored, says the specification.
        return Path(value) / "mutirao"
    home = environment.get("HOME", "")
    return (Path(home) if home.startswith("/") else Path.home()) / default / "mutirao"


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # Whoever reads it will say what is wrong with it.
        return True
    return True
