"""What every container of a runner has.

Spec: specs/sandbox.md#runner.
"""

import pytest

from node.sandbox.runner.bubblewrap import Bubblewrap
from node.sandbox.runner.container import MEMORY_LINE, Container, Usage
from node.sandbox.runner.engine import EngineContainer


def test_both_drivers_have_all_of_it():
    with pytest.raises(TypeError, match="abstract"):
        Container()
    for kind in (Bubblewrap, EngineContainer):
        assert not kind.__abstractmethods__


def test_usage_and_words():
    usage = Usage(1, None, out_of_memory=True)
    assert (usage.cpu_ms, usage.memory_peak_mib, usage.out_of_memory) == (1, None, True)
    assert "64 MiB" in MEMORY_LINE.format(64)
