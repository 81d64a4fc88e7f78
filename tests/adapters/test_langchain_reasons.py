"""
Every reason code of the design, as the model of a real LangChain agent meets it.

Each scene is a policy and what an agent does under it; the last answer is the refusal. The words
are what the model has to read in it: the number, the name, and the way out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import StructuredTool, tool
from langchain_scene import ACME, agent, answers, call, go
from pydantic import BaseModel, ConfigDict

import sluicegate
from sluicegate import Gate, Permit, Proposal, Subject, Unknown, hookimpl
from sluicegate.decision import CODES
from sluicegate.testing import FakeClock
from sluicegate_langchain import GateMiddleware

RUN = "ticket-7"
ONE = [call("send", "c1", to="bo", copies=3)]


@dataclass
class Stage:
    """What a scene is played with: a way to run agents, tools with effects, and gates."""

    way: str
    effects: Any
    make_gate: Callable[..., Gate]

    def tools(self) -> list[StructuredTool]:
        effects = self.effects

        def send(to: str, copies: int = 1, urgent: bool = False) -> str:
            """Send."""
            return str(effects.add("send", to, copies))

        def look(what: str) -> str:
            """Look."""
            return f"{what} is there"

        def fail(what: str) -> str:
            """Fail."""
            raise sluicegate.NotExecuted(f"{what} is down")

        return [StructuredTool.from_function(function) for function in (send, look, fail)]

    def gate(
        self, send: Any = None, ledger: str = "memory:", options: Any = None, **more: Any
    ) -> Gate:
        """A gate whose policy has these rules for `send`, and *more* sections."""
        tools = {"send": send or {}, "look": {"effect": "read"}, **more.pop("tools", {})}
        return self.make_gate({"tools": tools, **more}, ledger, **(options or {}))

    def play(
        self,
        gate: Gate,
        *turns: Any,
        subject: Subject | None = ACME,
        says: str = "Send it.",
        tools: Any = None,
    ) -> str:
        """Run an agent that makes the calls of *turns*; what it was told last."""
        graph = agent(
            tools or self.tools(),
            *(turns or [ONE]),
            middleware=[GateMiddleware(gate, subject=subject)],
        )
        with sluicegate.context(run=RUN):
            messages = go(graph, self.way, {"messages": [HumanMessage(says)]})
        return str(answers(messages)[-1].content)


Play = Callable[[Stage], str]
SCENES: dict[str, tuple[Play, tuple[str, ...], list[str]]] = {}


def scene(*words: str, ran: list[str] | None = None) -> Callable[[Play], Play]:
    """The scene of the code that the function is called by; *ran* is what really happened in it."""

    def known(play: Play) -> Play:
        SCENES[play.__name__] = play, words, ran or []
        return play

    return known


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("code", sorted(CODES))
def test_the_model_reads_the_number_the_name_and_the_way_out(code, way, effects, make_gate):
    """For each code there is a scene; the call does not run, and its answer says why and what to do."""
    play, words, ran = SCENES[code]
    told = play(Stage(way, effects, make_gate))
    assert told.startswith(("REFUSED: ", "WAITING FOR APPROVAL: "))
    assert " was not run" in told.splitlines()[0]
    assert f"\n- {code}: " in told
    assert [word for word in words if word not in told] == [], told
    assert effects.all == ran


def test_there_is_no_scene_without_a_code():
    """A scene of a misspelt code would never be played."""
    assert SCENES.keys() == CODES


# --- what is called, and with what -------------------------------------------------------------------


@scene(
    "no entry for 'sedn'",
    "Did you mean 'send'?",
    "It has: look, send",
    "Do not repeat this call unchanged.",
)
def unknown_tool(stage: Stage) -> str:
    return stage.play(stage.gate(), [call("sedn", to="bo")])


@scene("no grant lets tenant acme, user ada, agent desk call send", "ask for a grant in the policy")
def not_granted(stage: Stage) -> str:
    return stage.play(stage.gate(grants=[{"agent": "boss", "tools": ["send"]}]))


@scene("copies: 3", "greater than the maximum of 2", "(by the policy)")
def args_invalid(stage: Stage) -> str:
    return stage.play(stage.gate({"args": {"properties": {"copies": {"maximum": 2}}}}))


@scene("send never declared 'copis'", "did you mean 'copies'?", "it accepts: copies, to, urgent")
def args_unknown(stage: Stage) -> str:
    return stage.play(stage.gate(), [call("send", to="bo", copis=3)])


@scene("nan", "only plain JSON can be decided about")
def args_not_canonical(stage: Stage) -> str:
    return stage.play(stage.gate(), [call("send", to="bo", copies=float("nan"))])


@scene("`args.urgent` must be true and is not", "Do not repeat this call unchanged.")
def condition(stage: Stage) -> str:
    return stage.play(stage.gate({"when": "args.urgent"}))


@scene("`facts.crm.open` cannot be decided", "facts.crm is missing")
def condition_error(stage: Stage) -> str:
    return stage.play(stage.gate({"when": "facts.crm.open"}))


# --- what the run did and saw ---------------------------------------------------------------------------


@scene("to 'bo@example.com' did not come from the user's words", "or ask the user for it")
def origin(stage: Stage) -> str:
    gate = stage.gate({"origin": {"to": ["prompt"]}})
    return stage.play(gate, [call("send", to="bo@example.com")], says="Send it to al@example.com")


@scene('send needs look with what "bo" to have succeeded earlier in this run', "call it first")
def order(stage: Stage) -> str:
    gate = stage.gate({"requires": [{"tool": "look", "match": {"to": "what"}}]})
    return stage.play(gate, [call("look", "c0", what="al")], ONE)


@scene(
    "flow no-leaks", "has seen secret (from look, permit ", "send is; do it in a run that has not"
)
def flow(stage: Stage) -> str:
    tools = {"look": {"effect": "read", "labels": ["secret"]}}
    flows = [{"name": "no-leaks", "after": ["secret"], "deny": ["external"]}]
    gate = stage.gate({"labels": ["external"]}, tools=tools, flows=flows)
    return stage.play(gate, [call("look", "c0", what="x")], ONE)


@scene(
    "send was proposed 3 times with the same arguments for run ticket-7, of 2 allowed",
    "use the results that you have",
    "at 4 times the run is halted",
    ran=["send bo 3", "send bo 3"],
)
def repeat(stage: Stage) -> str:
    gate = stage.gate(limits=[{"repeat": 2, "per": ["run"]}])
    return stage.play(gate, *([call("send", name, to="bo", copies=3)] for name in "abc"))


@scene(
    "this run is 1 ", " deep, of 0 allowed (it was called by run ticket-7)", "in a run further out"
)
def depth(stage: Stage) -> str:
    gate = stage.gate(limits=[{"depth": 0}], tools={"delegate": {}})

    @tool
    def delegate(task: str) -> str:
        """Let another agent do it."""
        return Stage("invoke", stage.effects, stage.make_gate).play(gate)

    return stage.play(gate, [call("delegate", "d1", task="x")], tools=[delegate])


# --- how much and how often ---------------------------------------------------------------------------


@scene(
    "eur for tenant acme has 2 of 5 left today, this call needs 3; resets ",
    " UTC",
    ran=["send bo 3"],
)
def budget(stage: Stage) -> str:
    limits = [{"budget": "eur", "limit": 5, "per": ["tenant"], "window": "day"}]
    gate = stage.gate({"cost": {"eur": "args.copies"}}, limits=limits)
    return stage.play(gate, ONE, [call("send", "c2", to="al", copies=3)])


@scene(
    "per minute for send",
    "used up; the next one is possible in",
    "made again in 60 s",
    ran=["send bo 3"],
)
def rate(stage: Stage) -> str:
    return stage.play(stage.gate({"rate": "1/min"}), ONE, [call("send", "c2", to="al")])


@scene("all slots for send are taken: 1 call", "in 300 s at the latest", "may be made again in 1 s")
def concurrency(stage: Stage) -> str:
    gate = stage.gate({"concurrency": 1})
    assert isinstance(gate.decide(Proposal("send", {"to": "al"})), Permit)
    return stage.play(gate)


@scene("the breaker of fail is open: its last 2 calls failed", "one call may probe it in 60 s")
def breaker(stage: Stage) -> str:
    gate = stage.gate(
        tools={"fail": {"breaker": {"failures": 2, "cooldown": "1m"}}},
        options={"clock": FakeClock()},
    )
    for what in "ab":
        with pytest.raises(sluicegate.NotExecuted):
            stage.play(gate, [call("fail", what, what=what)])
    return stage.play(gate, [call("fail", "c3", what="c")])


# --- once and only once ---------------------------------------------------------------------------------


@scene(
    "call id 'c1' was used before, by permit ",
    "with other arguments; repeat the call with the same",
    ran=["send bo 3"],
)
def duplicate_call(stage: Stage) -> str:
    return stage.play(stage.gate(), ONE, [call("send", "c1", to="eve", copies=900)])


@scene(
    "key 'mail:bo' is being carried out right now under permit ",
    "wait for its result",
    "again in 1 s",
)
def in_progress(stage: Stage) -> str:
    gate = stage.gate({"once": {"key": "mail:{to}"}})
    elsewhere = Proposal("send", {"to": "bo", "copies": 3, "urgent": False}, subject=ACME)
    assert isinstance(gate.decide(elsewhere), Permit)
    return stage.play(gate)


@scene("key 'mail:bo' ran under permit ", "its outcome is unknown", "have a person reconcile it")
def outcome_unknown(stage: Stage) -> str:
    gate = stage.gate({"once": {"key": "mail:{to}"}})
    elsewhere = Proposal("send", {"to": "bo", "copies": 3, "urgent": False}, subject=ACME)
    permit = gate.decide(elsewhere)
    assert isinstance(permit, Permit)
    gate.settle(permit, Unknown(TimeoutError("no reply")))
    return stage.play(gate)


@scene(
    "key 'mail:bo' was used before, by permit ",
    "with other arguments",
    "or use another key",
    ran=["send bo 3"],
)
def key_conflict(stage: Stage) -> str:
    gate = stage.gate({"once": {"key": "mail:{to}"}})
    return stage.play(gate, ONE, [call("send", "c2", to="bo", copies=4)])


# --- people -----------------------------------------------------------------------------------------------


@scene(
    "WAITING FOR APPROVAL: send was not run (request ",
    "needs a person's yes",
    "Do not repeat this call before",
)
def approval_required(stage: Stage) -> str:
    return stage.play(stage.gate({"approve": True}))


@scene("ada has rejected request ", "for exactly this call; do something else")
def approval_rejected(stage: Stage) -> str:
    gate = stage.gate({"approve": True})
    stage.play(gate)
    gate.reject(gate.pending()[0].id, by="ada")
    return stage.play(gate)


@scene(
    "has expired without being used; a new one was made",
    "Do not repeat this call before it is approved.",
)
def approval_expired(stage: Stage) -> str:
    clock = FakeClock()
    gate = stage.gate({"approve": {"within": "1h"}}, options={"clock": clock})
    stage.play(gate)
    clock.advance(3601)
    return stage.play(gate)


@scene("tenant acme is halted (by ops: incident 7)", "until a person resumes it", "Stop here")
def halted(stage: Stage) -> str:
    gate = stage.gate()
    gate.halt(tenant="acme", by="ops", reason="incident 7")
    return stage.play(gate)


@scene("limits[0] is counted by tenant, which is missing", "give the subject a tenant")
def missing_subject(stage: Stage) -> str:
    gate = stage.gate(limits=[{"budget": "calls", "limit": 1, "per": ["tenant"]}])
    return stage.play(gate, subject=Subject(user="ada"))


# --- plugins, and what breaks --------------------------------------------------------------------------


class Fraud:
    """A plugin that says no."""

    @hookimpl
    def sluicegate_object(self, proposal: Proposal) -> str:
        return f"{proposal.args['to']} owes 3 invoices; ask accounting"


class Broken:
    """A plugin that raises."""

    @hookimpl
    def sluicegate_facts(self, proposal: Proposal) -> dict[str, Any]:
        raise ConnectionError("no route to host")


@scene("fraud", "bo owes 3 invoices; ask accounting", "Do not repeat this call unchanged.")
def objection(stage: Stage) -> str:
    return stage.play(stage.gate(options={"plugins": {"fraud": Fraud()}}))


@scene("crm", "ConnectionError", "Do not repeat this call unchanged.")
def plugin_error(stage: Stage) -> str:
    return stage.play(stage.gate(options={"plugins": {"crm": Broken()}}))


@scene("the ledger could not be used, so nothing was decided or spent", "again in 1 s")
def ledger_unavailable(stage: Stage) -> str:
    gate = stage.gate(ledger="sqlite")
    gate.close()
    return stage.play(gate)


class Nameless:
    """A type that no JSON Schema has a word for."""


class Odd(BaseModel):
    """Arguments that cannot be described."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    thing: Nameless


@scene("the call cannot be described: ", "the log says more", "Do not repeat this call unchanged.")
def internal_error(stage: Stage) -> str:
    def take(thing: Any) -> str:
        """Take."""
        return str(stage.effects.add("take"))

    made = StructuredTool.from_function(take, args_schema=Odd)
    gate = stage.gate(tools={"take": {}})
    return stage.play(gate, [call("take", thing=1)], tools=[made])
