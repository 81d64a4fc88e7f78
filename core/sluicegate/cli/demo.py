"""`sluicegate demo`: the same agent, script and shop twice, without a gate and with one."""

from __future__ import annotations

import importlib
import importlib.util
import re
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

import typer

from ..gate import Gate
from .scene import FACTS, Script
from .shop import Shop, policy_text
from .stage import Played, Show, show
from .terminal import NO, Json, WrongUse, answering, print_json, screen

__all__ = ["Player", "demo"]


class Player(Protocol):
    """What the module `sluicegate_<framework>.demo` of an adapter has."""

    ABOUT: str
    """What kind of agent plays, in a line."""

    WIRING: tuple[str, str]
    """How such an agent is given a gate: the code, and what to do with it."""

    def play(self, shop: Shop, script: Script, gate: Gate | None) -> None:
        """Run the script in the shop with a real agent, behind *gate* if there is one."""
        ...


def demo(
    framework: Annotated[
        str, typer.Option("--framework", metavar="NAME", help="Whose agent is to play.")
    ] = "langchain",
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            metavar="FOLDER",
            help="Keep both shops, the policy and the ledger in a new folder.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Watch one agent twice: without a gate, and with it.

    A real agent of the framework with real tools on a real SQLite shop. Only the model
    is scripted, so there is no network, no key, and the same scene each time.
    Exit code 1: the gate did not hold.

    \b
    Examples:
      sluicegate demo
      sluicegate demo --keep demo && sluicegate journal tail --policy demo/sluicegate.yaml
      sluicegate demo --json | jq .facts
    """
    with answering(as_json):
        player = _player(framework)
        with _folder(keep) as folder, screen(stderr=True).status("The agent is at work …"):
            result = _play(player, folder)
        if as_json:
            print_json(_told(framework, result))
        else:
            show(screen(), result, kept=keep)
        if not result.held:
            raise typer.Exit(NO)


def _player(framework: str) -> Player:
    """The player of *framework*, by its name alone: the core knows no adapter."""
    module = f"sluicegate_{framework}"
    if not re.fullmatch(r"[a-z0-9_]+", framework) or importlib.util.find_spec(module) is None:
        raise WrongUse(
            f"there is no adapter for {framework!r}", "sluicegate demo --framework langchain"
        )
    try:
        return cast("Player", importlib.import_module(f"{module}.demo"))
    except ImportError as error:
        raise WrongUse(
            f"the demo needs {framework}: {error}", f'pip install "sluicegate[{framework}]"'
        ) from None


@contextmanager
def _folder(keep: Path | None) -> Generator[Path, None, None]:
    if keep is None:
        with tempfile.TemporaryDirectory(
            prefix="sluicegate-demo-", ignore_cleanup_errors=True
        ) as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True)
    except FileExistsError:
        raise WrongUse(f"{keep} exists", "give a folder that does not; the demo makes it") from None
    yield keep


def _play(player: Player, folder: Path) -> Show:
    policy = folder / "sluicegate.yaml"
    policy.write_text(policy_text(), encoding="utf-8")
    before = Shop(folder / "before.db")
    shops = {name: Shop(folder / f"{name}.db") for name in ("without", "with")}
    scripts = {name: Script() for name in shops}
    player.play(shops["without"], scripts["without"], None)
    with Gate(policy) as gate:
        player.play(shops["with"], scripts["with"], gate)
        broken = gate.journal.verify()
        entries = list(gate.journal)
    return Show(
        about=player.ABOUT,
        wiring=player.WIRING,
        before=[fact.value(before) for fact in FACTS],
        without=Played.of(scripts["without"], shops["without"]),
        gated=Played.of(scripts["with"], shops["with"]),
        entries=entries,
        whole=broken is None,
    )


def _told(framework: str, result: Show) -> dict[str, Any]:
    facts = [
        {
            "table": fact.table,
            "what": fact.text,
            "wanted": fact.wanted,
            "before": before,
            "without": without,
            "with": gated,
        }
        for fact, before, without, gated in zip(
            FACTS, result.before, result.without.facts, result.gated.facts, strict=True
        )
    ]
    decisions = [e.content for e in result.entries if e.content["kind"] == "decision"]
    return {
        "ok": result.held,
        "framework": framework,
        "facts": facts,
        "without": result.without.told(),
        "with": result.gated.told(),
        "decisions": [
            {
                "decision": entry["decision"],
                "tool": entry["proposal"]["tool"],
                "args": entry["proposal"]["args"],
                "reasons": entry.get("reasons", []),
            }
            for entry in decisions
        ],
    }
