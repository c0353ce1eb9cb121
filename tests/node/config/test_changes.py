"""What applies without a restart. Spec: specs/owner.md#reload."""

from pathlib import Path

from node.config import load_config
from node.config.changes import LIVE, applied, changed_settings
from node.config.sources import values_of


def test_a_change_applies_now_or_after_a_restart(tmp_path: Path) -> None:
    before = load_config(None, {}, {"data_dir": tmp_path})
    flags = {"data_dir": tmp_path, "price.cpu_hour": "0.02", "provider.idle_s": 60,
             "network.name": "other", "log_level": "debug"}  # fmt: skip
    after = load_config(None, {}, flags)
    found = changed_settings(before, after)
    assert {(one.key, one.is_live) for one in found} == {
        ("price.cpu_hour", True), ("provider.idle_s", True), ("log_level", True),
        ("network.name", False),
    }  # fmt: skip
    following = applied(before, after)
    assert (following.price.cpu_hour, following.provider.idle_s) == ("0.02", 60)
    assert following.log_level == "debug"
    assert following.network == before.network
    assert [one.key for one in changed_settings(following, after)] == ["network.name"]
    assert changed_settings(before, before) == ()
    assert applied(before, before) == before


def test_live_settings_exist() -> None:
    assert values_of(load_config(None, {})).keys() >= LIVE
