"""Records.

Spec: specs/sandbox.md#run-folder.
"""

from node.sandbox.runner import records


def test_what_is_written_is_read(tmp_path):
    pairs = [("a", "1"), ("b", "x=y\n"), ("a", ""), ("ü", "\udcff")]
    path = str(tmp_path / "record")
    records.write(path, pairs)
    fields = records.read(path)
    assert fields.pairs == pairs
    assert fields.every("a") == ["1", ""]
    assert (fields.one("b"), fields.one("none", "else")) == ("x=y\n", "else")
    assert (fields.number("a"), fields.number("none", 7)) == (1, 7)


def test_a_record_is_replaced_whole_and_private(tmp_path):
    path = tmp_path / "record"
    records.write(str(path), [("a", "long" * 100)])
    records.write(str(path), [("a", "b")], durable=False)
    assert path.read_bytes() == b"a=b\0"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


def test_no_record(tmp_path):
    assert records.read(str(tmp_path / "none")) is None
