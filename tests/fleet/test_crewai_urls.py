"""A CrewAI crew on every ledger, by changing one URL."""

from __future__ import annotations

from pathlib import Path

import pytest
from example_scene import KINDS, assert_holds, url_of


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_runs_on_every_ledger(kind: str, tmp_path: Path) -> None:
    """Its option is the only change: five things go wrong without a gate, and none with it."""
    assert_holds("crewai_crew.py", url_of(kind, tmp_path), tmp_path)
