"""The configuration: what the owner of the machine decides, as one frozen value.

    config = load_config()                 # or load_config(Path("some.toml"), flags={…})

Later sources win, key by key: defaults, /etc/mutirao/config.toml,
$XDG_CONFIG_HOME/mutirao/config.toml (or one file that was asked for, in place of both),
MUTIRAO_SECTION__KEY in the environment, flags of the command line.
Spec: specs/configuration.md.
"""

from node.config.sections import (
    REGIONS,
    Config,
    ConfigError,
    NetworkSettings,
    PriceSettings,
    ProviderSettings,
    RequesterSettings,
    StorageSettings,
)
from node.config.sources import Setting, explain_config, load_config

__all__ = [
    "REGIONS",
    "Config",
    "ConfigError",
    "NetworkSettings",
    "PriceSettings",
    "ProviderSettings",
    "RequesterSettings",
    "Setting",
    "StorageSettings",
    "explain_config",
    "load_config",
]
