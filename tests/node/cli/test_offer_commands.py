"""The command about offers. Spec: specs/query.md, specs/rpc.md#command-line."""

from dataclasses import replace

from protocol.rules.query_fields import FIELDS
from tests.node.cli.conftest import run_cli


def test_offers(cli):
    offers = cli("offers")
    assert "europe?[31m" in offers.out
    assert "1 x h200 (140.4 GiB)" in offers.out
    assert "embedded (soft: memory, cpu)  container" in offers.out
    assert cli("offers", "--json").lines[0]["region"] == "europe\x1b[31m"


def test_a_node_that_does_not_provide_offers_nothing(cli, daemon, monkeypatch):
    (offer,) = daemon.service.offers("", "", None)
    both = (replace(offer, region="oceania"), replace(offer, cpus=0, memory_mib=0, drivers=()))
    monkeypatch.setattr(daemon.service, "offers", lambda *_: both)
    assert len(cli("offers").out.splitlines()) == 2
    assert len(cli("offers", "--json").lines) == 2


def test_a_query_with_an_order_and_a_limit(cli, daemon):
    assert cli("offers", "gpus>=1", "price<2", "--sort", "price,-vram", "--limit", "5").code == 0
    assert daemon.service.asked == ("gpus>=1 price<2", "price,-vram", 5)
    cli("offers")
    assert daemon.service.asked == ("", "", None)


def test_a_typo_names_the_nearest_field(cli):
    failed = cli("offers", "gpus>=1 vrma>=80G")
    assert (failed.code, failed.out) == (5, "")
    assert failed.err == (
        "error: character 9: there is no field 'vrma'; did you mean 'vram'?\n"
        "  `mutirao offers --fields` lists the fields of a query\n"
    )
    assert '"code": "invalid-query"' in cli("offers", "vrma=1", "--json").err


def test_a_query_that_selects_nobody(cli, daemon, monkeypatch):
    monkeypatch.setattr(daemon.service, "offers", lambda *_: ())
    assert cli("offers", "cpus>99").err == "no known node fits the query\n"
    assert cli("offers").err == ""


def test_a_limit_that_is_none(cli):
    assert cli("offers", "--limit", "0").code == 2


def test_the_fields_of_a_query_need_no_daemon(tmp_path):
    told = run_cli("offers", "--fields", "--data", tmp_path)
    assert told.code == 0
    assert [line.split()[0] for line in told.out.splitlines()] == ["FIELD", *FIELDS]
