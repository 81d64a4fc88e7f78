"""
A process that claims from a Redis ledger: `redis_worker.py <url> <name> <limit> <threads>`.

It says "ready", waits for a line, lets its threads claim one budget until it refuses, and
says which permits were granted and how many each thread had.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from requested import claiming, noting, quota, settling

from sluicegate.ledger.base import Granted
from sluicegate.ledger.redis import RedisLedger


def say(answer: Any) -> None:
    """One line, now."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(url: str, name: str, limit: str, threads: str) -> None:
    """Claim until nothing is left; every third claim fails, and is claimed anew."""
    ledger = RedisLedger.at(url)
    ledger.perform(noting(mark="policy"))
    permits: list[str] = []

    def take(thread: int) -> None:
        number = 0
        while True:
            number += 1
            permit = f"{name}.{thread}.{number}"
            request = claiming(permit, quota(int(limit)), quota(10**9, key=f"own {name}"))
            answer = ledger.perform(request)
            if not isinstance(answer, Granted):
                return
            if number % 3:
                permits.append(permit)
            else:
                ledger.perform(settling(request, answer, "failed"))

    say("ready")
    sys.stdin.readline()
    running = [threading.Thread(target=take, args=(thread,)) for thread in range(int(threads))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    say(permits)
    ledger.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
