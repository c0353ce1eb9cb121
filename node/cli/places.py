"""A job's place in the queue in words.

Spec: specs/rpc.md#views.
"""

import time
from collections.abc import Mapping
from typing import Any

from node.cli.output import duration


def place_in_words(queue: Mapping[str, Any], said: str | None = None) -> str:
    """Return a place, its reason and when the job calls again.

    `said` is a reason that the user has read already.
    """
    why = f": {queue['why']}" if queue["why"] not in {"", said} else ""
    words = f"{queue['place']} of {queue['jobs']}{why}"
    if queue["retry_ms"] is None:
        return words
    left_ms = max(0, queue["retry_ms"] - int(time.time() * 1000))
    return f"{words}; calls again in {duration(left_ms)}"
