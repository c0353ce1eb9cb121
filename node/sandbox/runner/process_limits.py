"""The resource limits of a container's processes, set before bwrap is executed.

Spec: specs/sandbox.md#limits.
"""

import resource

from node.sandbox.runner.records import Fields

LIMITS = (
    ("nofile", resource.RLIMIT_NOFILE),
    ("fsize", resource.RLIMIT_FSIZE),
    ("nproc", resource.RLIMIT_NPROC),
    ("as", resource.RLIMIT_AS),
    ("core", resource.RLIMIT_CORE),
    ("memlock", resource.RLIMIT_MEMLOCK),
    ("msgqueue", resource.RLIMIT_MSGQUEUE),
    ("sigpending", resource.RLIMIT_SIGPENDING),
)
"""Key in the launch record, and the kernel's number for it."""


def take(fields: Fields) -> None:
    """Set the resource limits, never above our own."""
    for key, number in LIMITS:
        if not fields.one(key) or (key == "nproc" and not fields.one("uid")):
            continue
        ours = resource.getrlimit(number)[1]
        value = fields.number(key)
        value = value if ours == resource.RLIM_INFINITY else min(value, ours)
        resource.setrlimit(number, (value, value))
