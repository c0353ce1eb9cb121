"""Finds the line of a key in a TOML file, for error messages.

Spec: specs/configuration.md#sources.
"""

import re


def line_of(text: str, key: str, *, quoted: bool = False) -> int | None:
    """Return the line, from 1, of a key such as `provider.cpus`; None if it is not written there.

    `quoted` says whether to look at quoted keys, too. A key that is written in another unusual way
    is not found.
    """
    marks = "[\"']?" if quoted else ""
    written = re.compile(rf"\s*{marks}([\w.-]+){marks}\s*=")
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = header[1].strip() + "."
        name = written.match(line)
        if name and section + name[1] == key:
            return number
    return None
