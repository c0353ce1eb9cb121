"""The configuration: the owner's settings, as one frozen value.

    config = load_config()                 # or load_config(Path("some.toml"), flags={…})

Later sources override earlier ones, key by key: defaults, /etc/mutirao/config.toml,
$XDG_CONFIG_HOME/mutirao/config.toml (or one given file in place of both), MUTIRAO_SECTION__KEY in
the environment, flags of the command line.
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
