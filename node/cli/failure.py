"""How a command fails: one clear line, and what to do next.

Spec: specs/rpc.md#exit-codes.
"""

import json
from typing import Final

from node.cli.exit_codes import exit_of

HINTS: Final[dict[str, str]] = {
    "daemon-unavailable": "start the node with `mutirao up`, or name its socket with --socket",
    "not-found": "see `mutirao jobs` or `mutirao image list`",
    "invalid-query": "`mutirao offers --fields` lists the fields of a query",
    "storage-full": "free some space, or raise storage.blobs_mib",
    "config": "see `mutirao config` and specs/configuration.md",
    "internal": "this is a bug in the node: see its log",
}
"""What to do next, by error code, for errors that do not say it themselves."""


class CliError(Exception):
    """A command cannot go on. `code` is stable; `detail` is one line; `hint` says what to do."""

    def __init__(self, code: str, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = " ".join(detail.split())
        # Many details already name the next command.
        self.hint = hint or ("" if "`mutirao" in detail else HINTS.get(code, ""))

    @property
    def exit_code(self) -> int:
        return exit_of(self.code)

    def as_json(self) -> str:
        """Return the failure as one line of JSON."""
        inner = {"code": self.code, "detail": self.detail, "hint": self.hint}
        return json.dumps({"error": inner}, ensure_ascii=False)

    def as_text(self) -> str:
        """Return the failure as text for people."""
        return f"error: {self.detail}" + (f"\n  {self.hint}" if self.hint else "")
