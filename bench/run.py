"""Measure what Sluicegate promises, beside floors in the same run. See README.md in this folder."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys

from rich.console import Console
from rich.table import Table
from row import Row
from rows import ROWS


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python bench/run.py --only memory,sqlite"
    )
    parser.add_argument(
        "--only", default=",".join(ROWS), help=f"rows to measure, of: {', '.join(ROWS)}"
    )
    parser.add_argument("--quick", action="store_true", help="measure less, for a first look")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON lines")
    options = parser.parse_args()
    names = options.only.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; there are: {', '.join(ROWS)}")
    console = Console(stderr=options.json)
    load = os.getloadavg()[0]
    console.print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f}; medians",
        style="dim",
    )
    rows: list[Row] = []
    for name in names:
        with console.status(f"measuring {name} …"):
            rows += ROWS[name](options.quick)
    if options.json:
        for row in rows:
            print(json.dumps(dataclasses.asdict(row), ensure_ascii=False))
    else:
        console.print(table(rows))
        for row in rows:
            if row.measured is None:
                console.print(f"{row.name}: {row.note}", style="dim")
    return 0


def table(rows: list[Row]) -> Table:
    result = Table(box=None, header_style="bold", pad_edge=False)
    for title, justify in (
        ("path", "left"),
        ("measured", "right"),
        ("floor", "right"),
        ("ratio", "right"),
        ("target", "left"),
    ):
        result.add_column(title, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        if row.measured is None:
            continue
        ratio = f"{row.measured / row.floor:.2f} ×" if row.floor else ""
        floor = f"{row.floor:,.1f} {row.unit} ({row.floor_name})" if row.floor else ""
        mark = "" if row.met is None else " [green]met[/]" if row.met else " [red]missed[/]"
        measured = f"{row.measured:,.2f}" if row.measured < 10 else f"{row.measured:,.1f}"
        result.add_row(row.name, f"{measured} {row.unit}", floor, ratio, row.target + mark)
        if row.note:
            result.add_row(f"  [dim]{row.note}[/]")
    return result


if __name__ == "__main__":
    sys.exit(main())
