"""
An order-desk crew in CrewAI, without a gate and with one: the scene of `sluicegate demo`.

    python examples/crewai_crew.py                            scripted: no network, no key
    python examples/crewai_crew.py --model openai/gpt-5-mini  a real model, with your key
    python examples/crewai_crew.py --ledger redis://localhost another ledger: docs/ledgers.md

The model misspells an argument, repeats a refund whose reply was lost, storms a carrier that is
down, refunds more at once than the day allows, and obeys a note that somebody left in an order.

The shop and the script are those of the demo (sluicegate.cli.shop and .scene), so that they are
not told twice. Here is what an application of yours has: tools, policy, gate, crew.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from itertools import count
from pathlib import Path
from textwrap import indent
from typing import Any

# CrewAI reads these when it is imported: no telemetry, no traces, no questions.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
os.environ.setdefault("CREWAI_TESTING", "true")

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool

from sluicegate import Gate, Subject
from sluicegate.cli.scene import FACTS, TASK, Script
from sluicegate.cli.shop import Shop
from sluicegate_crewai import guard_crew
from sluicegate_crewai.demo import ScriptedModel, numbered

# What may run, how often, and for how much. Not code: a file that somebody can review.
POLICY = Path(__file__).with_name("sluicegate.yaml")

# For whom the crew works; each agent's role is the agent. In a server this is a function of the
# caller: `lambda caller: Subject(tenant=…, user=…)`.
SUBJECT = Subject(tenant="acme")


def order_desk(model: Any, shop: Shop, gate: Gate | None) -> Crew:
    """The crew. With a gate there is one call more, and nothing else changes."""
    errors = count(1)
    functions: list[Any] = [
        shop.get_order,
        shop.place_order,
        shop.issue_refund,
        shop.track_parcel,
        shop.delete_customer,  # the task never needs it, and the policy does not list it
    ]
    make: Any = tool
    clerk = Agent(
        role="order-desk",
        goal="Do what the customers ask for.",
        backstory="You work at the order desk of a shop.",
        llm=model,
        tools=[make(numbered(function, errors)) for function in functions],
        max_iter=200,
    )
    task = Task(description=TASK, expected_output="What was done, and what was not.", agent=clerk)
    crew = Crew(agents=[clerk], tasks=[task])
    if gate is not None:
        guard_crew(crew, gate, subject=SUBJECT)  # every tool of every agent and task
    return crew


def run(model: Any, shop: Shop, gate: Gate | None) -> None:
    """Let the crew do the task, and print what it called and what it was told."""
    answer: Any = order_desk(model, shop, gate).kickoff()
    calls: dict[str, str] = {}
    for message in answer.tasks_output[0].messages:
        for call in message.get("tool_calls") or ():
            calls[call["id"]] = f"{call['function']['name']}({call['function']['arguments']})"
        if message["role"] == "tool":
            print(f"  {calls[message['tool_call_id']]}")
            print(indent(message["content"], "    "))
    print(f"  {answer.raw}\n")


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    arguments.add_argument(
        "--model", help="a real model, such as openai/gpt-5-mini; it needs your key"
    )
    arguments.add_argument(
        "--ledger", help="its URL, such as postgresql://localhost/agents; by default a SQLite file"
    )
    options = arguments.parse_args()
    name = options.model

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        os.environ.setdefault("CREWAI_STORAGE_DIR", folder)
        bare, guarded = Shop(here / "without.db"), Shop(here / "with.db")
        before = [fact.value(bare) for fact in FACTS]

        def model() -> Any:
            return LLM(name) if name else ScriptedModel(model="scripted", script=Script())

        print("Without a gate\n")
        run(model(), bare, None)

        print("With Sluicegate\n")
        # The ledger is a database of its own: limits hold for every process that shares it.
        ledger = options.ledger or f"sqlite:///{here / 'ledger.db'}"
        with Gate(POLICY, ledger=ledger) as gate:
            run(model(), guarded, gate)
            print("What the gate refused, from its journal\n")
            for entry in gate.journal:
                content = entry.content
                for reason in content.get("reasons", ()):
                    print(f"  {content['proposal']['tool']}: {reason['code']}: {reason['message']}")

        print("\nWhat is in the shop's database: wanted, before, without, with\n")
        for fact, was in zip(FACTS, before, strict=True):
            numbers = [fact.wanted, was, fact.value(bare), fact.value(guarded)]
            print(f"  {fact.text:<22}", *(f"{number:>6}" for number in numbers))


if __name__ == "__main__":
    main()
