"""Only files with a blob's name are blobs, and only fresh transfers stay.

Spec: specs/data.md#on-disk.
"""

import os
from pathlib import Path

from node.data.blob_files import PARTIAL_KEPT_S, blob_files, partial_files, unlink_all

NAME = "ab" * 32


def test_only_files_with_a_blobs_name_in_its_folder_are_blobs(tmp_path: Path) -> None:
    for folder, name in (("ab", NAME), ("cd", NAME), ("ab", "notes"), ("xy", "xy" * 32)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_bytes(b"data")
    assert [digest.hex() for digest, _ in blob_files(tmp_path)] == [NAME]


def test_fresh_transfers_stay_and_all_other_drafts_go(tmp_path: Path) -> None:
    fresh, old = tmp_path / f"{NAME}.partial", tmp_path / f"{'cd' * 32}.partial"
    for path in (fresh, old, tmp_path / "1.tmp", tmp_path / "x.partial", tmp_path / "mine"):
        path.write_bytes(b"data")
    past = old.stat().st_mtime - PARTIAL_KEPT_S - 1
    os.utime(old, (past, past))
    assert [path for path, _ in partial_files(tmp_path)] == [fresh]
    assert {path.name for path in tmp_path.iterdir()} == {fresh.name, "mine"}
    unlink_all([fresh, fresh])
    assert not fresh.exists()
