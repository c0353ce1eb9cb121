"""What of a changed configuration applies while the node runs, and what needs a restart.

Spec: specs/owner.md#reload.
"""

from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, Final

from node.config.sections import Config
from node.config.sources import values_of

LIVE: Final = frozenset({
    "log_level", "price.cpu_hour", "price.memory_gib_hour", "price.gpu_hour",
    "price.gpu_floor_hour", "price.floor_percent", "provider.cpus", "provider.memory_mib",
    "provider.disk_mib", "provider.jobs_max", "provider.pause_s", "provider.notice_s",
    "provider.audit_percent", "provider.pause_memory_mib", "provider.allow_peers",
    "provider.deny_peers", "provider.allow_images", "provider.deny_images", "provider.hours",
    "provider.idle_s", "provider.gpu_celsius_max", "provider.cpu_celsius_max",
    "provider.gpu_watts_max", "provider.cpu_watts_max", "provider.when_closed",
    "requester.price_max_hour", "requester.cap_percent", "requester.retries",
})  # fmt: skip
"""The settings that apply without a restart. The command line reads those of [requester] itself."""


@dataclass(frozen=True, slots=True)
class ChangedSetting:
    """A setting with another value than before."""

    key: str
    before: object
    after: object

    @property
    def is_live(self) -> bool:
        """Whether it applies without a restart."""
        return self.key in LIVE


def changed_settings(before: Config, after: Config) -> tuple[ChangedSetting, ...]:
    """Return the settings whose values differ."""
    values = values_of(before)
    return tuple(
        ChangedSetting(key, values[key], value)
        for key, value in values_of(after).items() if value != values[key]
    )  # fmt: skip


def applied(before: Config, after: Config) -> Config:
    """Return the configuration with all new values that apply without a restart."""
    live = {one.key: one.after for one in changed_settings(before, after) if one.is_live}
    following: Config = _with(before, live)
    return following


def _with(config: Any, values: Mapping[str, object]) -> Any:
    direct = {key: value for key, value in values.items() if "." not in key}
    for section in {key.partition(".")[0] for key in values if "." in key}:
        inner = {key.partition(".")[2]: value for key, value in values.items()
                 if key.startswith(f"{section}.")}  # fmt: skip
        assert is_dataclass(getattr(config, section))
        direct[section] = _with(getattr(config, section), inner)
    return replace(config, **direct)
