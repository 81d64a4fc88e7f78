"""The path to what the incidents are told with."""

from __future__ import annotations

import sys
from pathlib import Path

# In pytest's importlib mode a test's own folder is not on the path.
sys.path.insert(0, str(Path(__file__).parent))
