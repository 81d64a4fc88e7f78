"""The paths to the worker of the fleet, to the incidents, and to the servers of the ledgers' tests."""

from __future__ import annotations

import sys
from pathlib import Path

# In pytest's importlib mode a test's own folder is not on the path.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "incidents"))
sys.path.insert(0, str(Path(__file__).parents[1] / "ledgers"))
