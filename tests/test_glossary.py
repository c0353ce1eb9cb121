"""The glossary is law: no name in the code holds a word that it bans.

Spec: specs/glossary.md.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.test_tidy import ROOT, SOURCES, named

Words = tuple[str, ...]
BANNED: Final = "do not say"
NONE: Final = "\N{EN DASH}"
WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def banned_words(glossary: str) -> frozenset[Words]:
    """Return what stands in the columns "do not say", and its plurals, as the words of names."""
    found: set[Words] = set()
    column = None
    for line in glossary.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            column = None
        elif BANNED in cells:
            column = cells.index(BANNED)
        elif column is not None and cells[column] not in {NONE, "---"}:
            found |= {tuple(each.lower().split()) for each in cells[column].split(", ")}
    return frozenset(found | {(*words[:-1], words[-1] + "s") for words in found})


def names_in(module: str, text: str) -> Iterator[str]:
    """Yield a module's name, and those of its classes, functions, parameters and attributes."""
    yield from Path(module).with_suffix("").parts
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.AsyncFunctionDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.AnnAssign(target=ast.Name(name)):
                yield name


def banned_names(module: str, text: str, banned: frozenset[Words]) -> list[str]:
    """Return the names in a module that hold banned words, each with the first of them."""
    found = []
    for name in names_in(module, text):
        words = [word.lower() for word in WORD.findall(name)]
        parts = {tuple(words[i:j]) for j in range(len(words) + 1) for i in range(j)}
        found += [f"{name}: {' '.join(min(parts & banned))}"] if parts & banned else []
    return found


GLOSSARY: Final = banned_words((ROOT / "specs/glossary.md").read_text())


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_no_name_has_a_word_that_the_glossary_bans(path: Path) -> None:
    assert not banned_names(named(path), path.read_text(), GLOSSARY)


@pytest.mark.parametrize(
    "bad",
    [
        "class Postman: ...", "class OutboxDOOR: ...", "def tell_story(): ...",
        "def f(seed_node): ...", "async def find_sellers(): ...", "lambda island: 1",
        "class A:\n    market: int", "class A:\n    def f(self):\n        self._nack = 1",
    ],
)  # fmt: skip
def test_a_banned_word_is_found(bad: str) -> None:
    fine = "class Stranger: ...\ndef seed_of(node, offers): ...\nroot = 1\n"
    assert len(banned_names("node/fine.py", fine + bad, GLOSSARY)) == 1
    assert banned_names("node/postman.py", fine, GLOSSARY) == ["postman: postman"]


def test_words_of_all_tables_are_banned_and_common_terms_are_not() -> None:
    assert {("worker",), ("seed", "node"), ("workshop",), ("cards",)} <= GLOSSARY
    assert not {(NONE,), (BANNED,), ("server",), ("file",), ("stranger",)} & GLOSSARY
