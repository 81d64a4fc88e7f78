"""What is in examples/: the plugin package as others would install it, and the policy."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from sluicegate import Deny, Gate, Permit, PluginError, Policy, Proposal
from sluicegate.cli.shop import policy_text

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PLUGIN = EXAMPLES / "plugin_package"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin as pip would unpack it: its wheel, with its metadata."""
    folder = tmp_path_factory.mktemp("plugin")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=PLUGIN, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_a_gate_loads_the_plugin_by_its_entry_point(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed is not loaded: only the gate that names it asks it, and then its no counts."""
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    customers = tmp_path / "customers.json"
    customers.write_text(json.dumps({"C-1": {}}), encoding="utf-8")
    monkeypatch.setenv("SLUICEGATE_CRM_FILE", str(customers))
    assert [point.value for point in entry_points(group="sluicegate", name="crm")] == [
        "sluicegate_crm"
    ]
    policy = {"version": 1, "tools": {"send_email": {}}}
    stranger = Proposal("send_email", {"customer_id": "C-9"})
    with Gate(policy, ledger="memory:") as gate:
        assert isinstance(gate.decide(stranger), Permit)
    with Gate(policy, ledger="memory:", plugins=["crm"]) as gate:
        decision = gate.decide(stranger)
        assert isinstance(decision, Deny)
        assert [(reason.code, reason.rule) for reason in decision.reasons] == [
            ("objection", "plugin crm")
        ]
        assert isinstance(gate.decide(Proposal("send_email", {"customer_id": "C-1"})), Permit)


def test_without_its_package_the_name_is_an_error() -> None:
    """A gate whose plugin is missing is not made: it would permit what the plugin refuses."""
    with pytest.raises(PluginError, match="no installed package has the entry point 'crm'"):
        Gate({"version": 1, "tools": {"a": {}}}, ledger="memory:", plugins=["crm"])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no release of CEL supports Python 3.10")
def test_the_tests_of_the_plugin_pass(site: Path) -> None:
    """Whoever copies the folder begins with green tests."""
    path = os.pathsep.join([str(site), *filter(None, sys.path)])
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "tests"],
        cwd=PLUGIN,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    assert "6 passed" in result.stdout


def test_the_policy_of_the_example_is_that_of_the_demo() -> None:
    """The wheel has no examples, so the demo carries a copy, and this keeps the two the same."""
    assert (EXAMPLES / "sluicegate.yaml").read_text("utf-8") == policy_text()
    assert Policy.load(EXAMPLES / "sluicegate.yaml")
