"""
An order-desk agent in LangChain, without a gate and with one: the scene of `sluicegate demo`.

    python examples/langchain_agent.py                            scripted: no network, no key
    python examples/langchain_agent.py --model openai:gpt-5-mini  a real model, with your key
    python examples/langchain_agent.py --ledger redis://localhost another ledger: docs/ledgers.md

The model misspells an argument, repeats a refund whose reply was lost, storms a carrier that is
down, refunds more at once than the day allows, and obeys a note that somebody left in an order.

The shop and the script are those of the demo (sluicegate.cli.shop and .scene), so that they are
not told twice. Here is what an application of yours has: tools, policy, gate, agent.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from textwrap import indent
from typing import Any

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool

from sluicegate import Gate, Subject
from sluicegate.cli.scene import FACTS, TASK, Script
from sluicegate.cli.shop import Shop
from sluicegate_langchain import GateMiddleware
from sluicegate_langchain.demo import ScriptedModel, tell_errors

# What may run, how often, and for how much. Not code: a file that somebody can review.
POLICY = Path(__file__).with_name("sluicegate.yaml")

# For whom the agent works. In a server this is a function of the request's runtime.
SUBJECT = Subject(tenant="acme", agent="order-desk")


def order_desk(model: Any, shop: Shop, gate: Gate | None) -> Any:
    """The agent. With a gate it has one more middleware, and nothing else changes."""
    tools = [
        tool(shop.get_order),
        tool(shop.place_order),
        tool(shop.issue_refund),
        tool(shop.track_parcel),
        tool(shop.delete_customer),  # the task never needs it, and the policy does not list it
    ]
    middleware: list[Any] = [tell_errors]  # the model reads a tool's error, and the run goes on
    if gate is not None:
        # Last, and so next to the tool: nothing can change a call after it was decided.
        middleware.append(GateMiddleware(gate, subject=SUBJECT))
    return create_agent(model, tools, middleware=middleware)


def run(model: Any, shop: Shop, gate: Gate | None) -> None:
    """Let the agent do the task, and print what it called and what it was told."""
    agent = order_desk(model, shop, gate)
    # This invocation is a run: limits `per: [run]` count by it.
    config = {"configurable": {"thread_id": "orders-of-today"}, "recursion_limit": 200}
    answer = agent.invoke({"messages": [("user", TASK)]}, config)
    calls: dict[str, str] = {}
    for message in answer["messages"]:
        if isinstance(message, AIMessage):
            for call in message.tool_calls:
                calls[str(call["id"])] = f"{call['name']}({call['args']})"
        elif isinstance(message, ToolMessage):
            print(f"  {calls[message.tool_call_id]}")
            print(indent(str(message.text), "    "))
    print(f"  {answer['messages'][-1].text}\n")


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    arguments.add_argument(
        "--model", help="a real model, such as openai:gpt-5-mini; it needs your key"
    )
    arguments.add_argument(
        "--ledger", help="its URL, such as postgresql://localhost/agents; by default a SQLite file"
    )
    options = arguments.parse_args()
    name = options.model

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        bare, guarded = Shop(here / "without.db"), Shop(here / "with.db")
        before = [fact.value(bare) for fact in FACTS]

        def model() -> Any:
            return init_chat_model(name) if name else ScriptedModel(script=Script())

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
