"""The specifications and the code say the same: tables, anchors, links, reasons, limits.

Spec: specs/README.md#generated-parts.
"""

import importlib.util
import re
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Final

import pytest

from protocol.core.jobs import WORTH_RETRYING
from protocol.rules.commitment import BID_DOMAIN
from protocol.values import errors, limits, reasons
from protocol.values.ids import LEASE_DOMAIN
from protocol.wire.envelope import CONTENT_DOMAIN, SIGNATURE_DOMAIN
from protocol.wire.messages import WIRE

ROOT: Final = Path(__file__).parent.parent
SPECS: Final = sorted((ROOT / "specs").glob("*.md"))
DECISIONS: Final = sorted((ROOT / "specs/decisions").glob("*.md"))
SOURCES: Final = sorted(
    path for part in ("protocol", "node", "scripts") for path in (ROOT / part).rglob("*")
    if path.suffix in {".py", ""} and path.is_file()
)  # fmt: skip
NAMED: Final = re.compile(r"specs/((?:[\w-]+/)*[\w-]+\.md)(?:#([\w-]+))?")
LINK: Final = re.compile(r"\]\((?!\w+:)([\w./-]*?)(?:#([\w-]+))?\)")
LIMIT_NAMED: Final = re.compile(r"`(?:\d+ \W )?([A-Z]+(?:_[A-Z]+)*_(?:MS|MAX|BURST|CAP))`")
CONSTANT: Final = re.compile(r"^([A-Z_]+)\b", re.MULTILINE)
BLOCKS_OF_MACHINES: Final = {
    f"{kind} {machine}"
    for kind in ("states", "diagram", "transitions", "unmoved")
    for machine in ("auction", "bidding", "requester-lease", "provider-lease")
}


def load_diagrams():
    loader = SourceFileLoader("diagrams", str(ROOT / "scripts/diagrams"))
    spec = importlib.util.spec_from_loader("diagrams", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


diagrams = load_diagrams()


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors_of(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a document."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def section_of(path: Path, anchor: str) -> str:
    """Return the text between the heading with the anchor and the next heading."""
    parts = re.split(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
    sections = zip(parts[1::2], parts[2::2], strict=True)
    return next(text for title, text in sections if title.lower().replace(" ", "-") == anchor)


def rows_of(path: Path, anchor: str) -> list[list[str]]:
    """Return the cells of the first table of a section, without its head."""
    lines = [line for line in section_of(path, anchor).splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines[2:]]


def targets(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    yield from {(found[1], found[2] or "") for found in pattern.finditer(text)}


def missing(place: Path, anchor: str) -> str:
    if not place.exists():
        return f"there is no {place.name}"
    if anchor and place.is_file() and anchor not in anchors_of(place):
        return f"{place.name} has no heading for #{anchor}"
    return ""


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_generated_parts_are_up_to_date(path):
    assert diagrams.out_of_date(path) == [], "run: scripts/diagrams --write"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_what_the_code_names_exists(path):
    found = {missing(ROOT / "specs" / f, anchor) for f, anchor in targets(path.read_text(), NAMED)}
    assert found <= {""}


@pytest.mark.parametrize("path", [*SPECS, *DECISIONS], ids=name_of)
def test_links_lead_somewhere(path):
    links = list(targets(path.read_text(), LINK))
    found = {missing((path.parent / f) if f else path, anchor) for f, anchor in links}
    assert found <= {""}


@pytest.mark.parametrize("path", [*SPECS, *DECISIONS], ids=name_of)
def test_a_document_is_short_and_says_its_status(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= (40 if path in DECISIONS else 300)
    assert lines[0].startswith("# ")
    assert "status" in "\n".join(lines[1:6]).lower()


def test_the_reading_order_names_every_document():
    named = {f for f, _ in targets((ROOT / "specs/README.md").read_text(), LINK)}
    assert {path.name for path in SPECS} - {"README.md"} <= named


def test_decisions_have_three_parts_and_are_numbered_without_gaps():
    assert [path.name[:4] for path in DECISIONS] == [f"{n + 1:04}" for n in range(len(DECISIONS))]
    for path in DECISIONS:
        titles = re.findall(r"^## (.+)$", path.read_text(), flags=re.MULTILINE)
        assert titles == ["Context", "Decision", "Consequences"], path.name


@pytest.mark.parametrize("route", WIRE, ids=lambda route: route.message.__name__)
def test_the_section_of_a_message_draws_its_fields(route):
    place, _, anchor = route.spec.partition("#")
    text = section_of(ROOT / "specs" / place, anchor)
    assert f"<!-- generated: fields {route.message.__name__} -->" in text


def test_every_machine_and_table_is_drawn_somewhere():
    drawn = {name for path in SPECS for _, name, _, _ in diagrams.BLOCK.findall(path.read_text())}
    wanted = {"wire", "limits", "errors", "classes Input", "classes Effect", "classes JobEvent"}
    assert wanted | BLOCKS_OF_MACHINES <= drawn


@pytest.mark.parametrize("kind", [reasons.Refusal, reasons.Decline, reasons.Release])
def test_reasons_on_the_wire_are_those_of_the_code(kind):
    rows = rows_of(ROOT / "specs/errors.md", kind.__name__.lower())
    assert {(int(row[0]), row[1]) for row in rows} == {(one.value, one.name) for one in kind}


@pytest.mark.parametrize("kind", [reasons.Failure, reasons.Mismatch])
def test_reasons_for_people_are_those_of_the_code(kind):
    rows = rows_of(ROOT / "specs/errors.md", kind.__name__.lower())
    assert [row[0] for row in rows] == [one.value for one in kind]


def test_the_specification_says_which_failures_are_worth_another_attempt():
    rows = rows_of(ROOT / "specs/errors.md", "failure")
    assert {row[0] for row in rows if row[1] == "yes"} == set(WORTH_RETRYING)


def test_the_specification_knows_every_domain():
    rows = rows_of(ROOT / "specs/identity.md", "domain-separation")
    domains = {SIGNATURE_DOMAIN, CONTENT_DOMAIN, BID_DOMAIN, LEASE_DOMAIN}
    assert {row[0].encode().replace(rb"\0", b"\0") for row in rows} == domains


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_limits_that_the_text_names_exist(path):
    named = set(LIMIT_NAMED.findall(path.read_text()))
    texts = [source.read_text() for source in SOURCES if source.suffix == ".py"]
    known = {name for text in texts for name in CONSTANT.findall(text)}
    assert named <= known | set(vars(limits))


def test_every_error_has_a_code_of_its_own():
    classes = [cls for _, cls in diagrams.descendants(errors.NodeError, 0)]
    codes = [cls.__dict__["code"] for cls in classes if "code" in cls.__dict__]
    assert len(codes) == len(set(codes)) >= 10


def test_a_stale_block_is_noticed_and_mended(tmp_path):
    document = tmp_path / "x.md"
    block = "<!-- generated: limits -->\n{}<!-- end -->\n"
    document.write_text("before\n" + block.format("old\n") + "after\n")
    assert diagrams.out_of_date(document) == ["limits"]
    mended = diagrams.redrawn(document.read_text())
    assert mended == "before\n" + block.format(diagrams.drawn("limits")) + "after\n"
    document.write_text(mended)
    assert diagrams.out_of_date(document) == []


def test_a_block_that_nobody_draws_is_an_error():
    with pytest.raises(ValueError, match="there is no block 'nonsense'"):
        diagrams.drawn("nonsense")


def test_a_diagram_shows_where_a_transition_leads():
    award = diagrams.drawn("diagram award").splitlines()
    assert "    Awarding --> Confirming: AwardAccept" in award
    assert "    Won --> [*]" in award
    assert not any("Awarding --> Won" in line for line in award)
    serving = diagrams.drawn("transitions provider-lease").splitlines()
    row = next(line for line in serving if line.startswith("| `Waiting` | `Start` |"))
    assert row.endswith("| the same, `Serving` |")


def test_pairs_that_change_nothing_are_drawn_with_the_reason():
    serving = diagrams.drawn("unmoved provider-lease").splitlines()
    assert "| illegal | no container is paused | `Held`, `Active`, `Preparing`, `Waiting`, " in (
        next(line for line in serving if "`PauseDenied`" in line)
    )
    assert serving[-1].startswith("| illegal |")
    assert "| ignored | the lease has ended | `Ended`: every input |" in serving
