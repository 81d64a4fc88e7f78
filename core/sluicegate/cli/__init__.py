"""The command line: `sluicegate …`. Nothing else of the core imports typer or rich."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """The program `sluicegate`."""
    from .app import main as run  # the shop of the demo is here too, and needs neither

    run()
