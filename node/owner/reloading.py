"""Reads the configuration again while the node runs.

Spec: specs/owner.md#reload.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import trio

from node.config import Config
from node.config.changes import ChangedSetting, applied, changed_settings
from node.owner.conditions import Conditions
from node.owner.control import OwnerControl
from protocol.machines.context import Policy
from protocol.values.errors import Conflict, NodeError

LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Where the configuration comes from, and what it means on this machine."""

    read: Callable[[], Config]
    """Raises ConfigError, which says in one line what is wrong and where."""
    policy_of: Callable[[Config], Policy]
    """Raises ConfigError."""


class Reloader:
    """Applies what has changed in the configuration, as far as that needs no restart."""

    def __init__(
        self, config: Config, source: ConfigSource | None, control: OwnerControl,
        conditions: Conditions,
    ) -> None:  # fmt: skip
        """Take the configuration of the start and its source; None if it cannot be read again."""
        self.config = config
        self._source = source
        self._control = control
        self._conditions = conditions

    async def reload(self) -> tuple[ChangedSetting, ...]:
        """Apply the configuration as it is now; return what differs from what applied before.

        Raises ConfigError: then nothing changes.
        """
        source = self._source
        if source is None:
            raise Conflict("this node was started without a configuration that it can read again")
        wanted = await trio.to_thread.run_sync(source.read)
        changed = changed_settings(self.config, wanted)
        config = applied(self.config, wanted)
        policy = source.policy_of(config)
        self.config = config
        logging.getLogger().setLevel(config.log_level.upper())
        await self._control.lend(replace(policy, addresses=self._control.lent.addresses))
        self._conditions.change(config.provider)
        for one in changed:
            how = "now" if one.is_live else "after a restart"
            LOG.info("%s is %s %s", one.key, one.after, how)
        return changed

    async def reload_and_log(self) -> None:
        """Apply the configuration; a fault in it is logged."""
        try:
            changed = await self.reload()
        except NodeError as error:
            LOG.error("the configuration stays as it was: %s", error)  # noqa: TRY400 - One line.
        else:
            LOG.info("the configuration was read again: %d settings have changed", len(changed))
