"""
A process that uses a SQLite ledger as it is told to, line by line.

Each line on standard input is a JSON object `{"do": …}`; each gets lines of JSON back.
"""

from __future__ import annotations

import json
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from requested import NOW, claiming, quota, settling, slot

from sluicegate.errors import LedgerError
from sluicegate.ledger.base import Granted
from sluicegate.ledger.sqlite import SqliteLedger


def say(answer: Any) -> None:
    """One line back, now."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def race(ledger: SqliteLedger, name: str, key: str, limit: int, threads: int) -> list[str]:
    """Let so many threads claim one budget until it refuses; the permits that were granted."""
    permits: list[str] = []
    start = threading.Barrier(threads)

    def take(thread: int) -> None:
        start.wait()
        for number in range(limit + 1):
            permit = f"{name}.{thread}.{number}"
            answer = ledger.perform(claiming(permit, quota(limit, key=key)))
            if not isinstance(answer, Granted):
                return
            permits.append(permit)

    running = [threading.Thread(target=take, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return permits


def stream(ledger: SqliteLedger, name: str) -> None:
    """Claim for ever, and settle every second permit; each is acknowledged before the next begins."""
    number = 0
    while True:
        number += 1
        permit = f"{name}.{number}"
        request = claiming(permit, quota(10**9), slot(10**9, key=f"slot:{name}"))
        answer = ledger.perform(request)
        say(["granted", permit])
        if number % 2:
            ledger.perform(settling(request, answer))
            say(["settled", permit])


def main() -> None:
    """Do what the lines say."""
    ledger: SqliteLedger | None = None
    for line in sys.stdin:
        order = json.loads(line)
        do = order.pop("do")
        if do == "open":
            try:
                ledger = SqliteLedger(order["path"])
                say("open")
            except LedgerError as error:
                say(str(error))
            continue
        assert ledger is not None
        if do == "race":
            say(race(ledger, **order))
        elif do == "claim":
            answer = ledger.perform(claiming(order["permit"], quota(order["limit"]), now=NOW))
            say(type(answer).__name__)
        elif do == "stream":
            stream(ledger, **order)
        elif do == "close":
            ledger.close()
            say("closed")


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
