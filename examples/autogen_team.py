"""
An order-desk team in AutoGen, without a gate and with one: the scene of `sluicegate demo`.

    python examples/autogen_team.py                              scripted: no network, no key
    python examples/autogen_team.py --model openai:gpt-5-mini    a real model, with your key
    python examples/autogen_team.py --ledger redis://localhost   another ledger: docs/ledgers.md

The shop and the script are those of the demo (sluicegate.cli.shop, sluicegate.cli.scene);
here is all that an application of yours would have: tools, policy, gate, team.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination, TextMessageTermination
from autogen_agentchat.messages import ToolCallExecutionEvent, ToolCallRequestEvent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ChatCompletionClient

from sluicegate import Gate, Subject
from sluicegate.cli.scene import FACTS, TASK, Script
from sluicegate.cli.shop import Shop
from sluicegate_autogen import GateTermination, GateWorkbench, check_team
from sluicegate_autogen.demo import ScriptedModel

# What may run, how often, and for how much. Not code: a file that somebody can review.
POLICY = Path(__file__).with_name("sluicegate.yaml")

# For whom the team works. In a server this is a function, or sluicegate.context says it.
SUBJECT = Subject(tenant="acme", agent="order-desk")

# A real model by its name: `pip install "autogen-ext[openai]"`, and so on.
CLIENTS = {
    "openai": "autogen_ext.models.openai.OpenAIChatCompletionClient",
    "anthropic": "autogen_ext.models.anthropic.AnthropicChatCompletionClient",
    "ollama": "autogen_ext.models.ollama.OllamaChatCompletionClient",
}


def order_desk(model: Any, shop: Shop, gate: Gate | None) -> RoundRobinGroupChat:
    """The team. With a gate its agent has a workbench instead of a list of tools, and nothing else changes."""
    tools: list[Callable[..., Any]] = [
        shop.get_order,
        shop.place_order,
        shop.issue_refund,
        shop.track_parcel,
        shop.delete_customer,  # the task never needs it, and the policy does not list it
    ]
    if gate is None:
        desk = AssistantAgent("order_desk", model, tools=list(tools))
    else:
        desk = AssistantAgent(
            "order_desk", model, workbench=GateWorkbench(tools, gate, subject=SUBJECT)
        )
    # One turn of the model after the other, until it has no more calls to make.
    end = TextMessageTermination(source="order_desk") | MaxMessageTermination(200)
    team = RoundRobinGroupChat([desk], termination_condition=GateTermination() | end)
    if gate is not None:
        check_team(team, gate)  # raises if there is a way past the gate
    return team


async def run(model: Any, shop: Shop, gate: Gate | None) -> None:
    """Let the team do the task, and print what it called and what it was told."""
    # One run of the team is a run: limits `per: [run]` count by it.
    result = await order_desk(model, shop, gate).run(task=TASK)
    calls: dict[str, str] = {}
    for message in result.messages:
        if isinstance(message, ToolCallRequestEvent):
            calls.update({c.id: f"{c.name}({c.arguments})" for c in message.content})
        elif isinstance(message, ToolCallExecutionEvent):
            for told in message.content:
                first, _, more = told.content.partition("\n")
                print(f"  {calls[told.call_id]}\n    {first}")
                for line in more.splitlines():
                    print(f"    {line}")
    print(f"  {result.messages[-1].to_text()}\n")


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
            if not name:
                return ScriptedModel(Script())
            provider, _, model_name = name.partition(":")
            config = {"provider": CLIENTS[provider], "config": {"model": model_name}}
            return ChatCompletionClient.load_component(config)

        print("Without a gate\n")
        asyncio.run(run(model(), bare, None))

        print("With Sluicegate\n")
        # The ledger is a database of its own: limits hold for every process that shares it.
        ledger = options.ledger or f"sqlite:///{here / 'ledger.db'}"
        with Gate(POLICY, ledger=ledger) as gate:
            asyncio.run(run(model(), guarded, gate))
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
