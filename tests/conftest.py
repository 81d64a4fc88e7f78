"""What all tests share: which of them need a framework, and how hypothesis searches."""

from __future__ import annotations

import os
from importlib.util import find_spec

from hypothesis import HealthCheck, settings

# A test file that is named for a framework or a server needs it; all others run without any.
NEEDS = {
    "langchain": "langchain",
    "autogen": "autogen_agentchat",
    "crewai": "crewai",
    "redis": "redis",
    "postgres": "psycopg",
}
collect_ignore_glob = [
    f"*test_{name}*.py" for name, module in NEEDS.items() if find_spec(module) is None
]


def pytest_report_header() -> list[str]:
    return [f"left out, not installed: {pattern}" for pattern in collect_ignore_glob]


# No deadlines: a slow machine is no bug. In CI the same examples each time, so that
# a red run is red again; on a desk new ones each time, so that more is found.
settings.register_profile(
    "sluicegate",
    deadline=None,
    derandomize="CI" in os.environ,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("sluicegate"), max_examples=2_000)
settings.load_profile("sluicegate")
