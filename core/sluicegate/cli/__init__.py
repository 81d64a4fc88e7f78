"""The command line: `sluicegate …`. Nothing else of the core imports typer or rich."""

from __future__ import annotations

from .app import app, main

__all__ = ["app", "main"]
