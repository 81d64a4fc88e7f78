"""Plugins: what each hook does, and which plugins are refused when the gate is made."""

from __future__ import annotations

import types

import pytest

from sluicegate import Deny, Gate, Objection, Permit, PluginError, Proposal, Succeeded, hookimpl
from sluicegate.claims import Approval, Quota
from sluicegate.hookspec import hookspec
from sluicegate.plugins import Plugins

POLICY = {"version": 1, "tools": {"t": {}, "paid": {"when": "facts.crm.good"}}}


def plugin(**hooks):
    module = types.ModuleType("crm")
    for name, function in hooks.items():
        setattr(module, name, hookimpl(function))
    return module


def codes(decision):
    return [reason.code for reason in decision.reasons] if isinstance(decision, Deny) else []


def test_hook_facts():
    """Facts are gathered first, seen by conditions under the plugin's name, and kept in the journal."""
    asked = []

    def sluicegate_facts(proposal):
        asked.append(proposal.tool)
        return {"good": proposal.args.get("customer") == "ada"}

    gate = Gate(POLICY, "memory:", plugins=[plugin(sluicegate_facts=sluicegate_facts)])
    assert isinstance(gate.decide(Proposal("paid", {"customer": "ada"})), Permit)
    assert codes(gate.decide(Proposal("paid", {"customer": "bob"}))) == ["condition"]
    assert gate.journal.tail(1)[0].content["facts"] == {"crm": {"good": False}}
    assert asked == ["paid", "paid"]


def test_hook_facts_may_have_none():
    """A plugin without facts leaves the condition without a value: a refusal."""
    gate = Gate(POLICY, "memory:", plugins=[plugin(sluicegate_facts=lambda: None)])
    assert codes(gate.decide(Proposal("paid", {}))) == ["condition_error"]


def test_hook_object():
    """An objection refuses, with the plugin's name, also beside the policy's own reasons."""
    gate = Gate(POLICY, "memory:", plugins=[plugin(sluicegate_object=lambda: "closed today")])
    decision = gate.decide(Proposal("t", {}))
    assert codes(decision) == ["objection"]
    assert decision.reasons[0].message == "crm: closed today"
    assert not decision.final
    assert codes(gate.decide(Proposal("nope", {}))) == ["unknown_tool", "objection"]


def test_an_objection_can_end_the_run():
    """An Objection may say that the run should stop, or when to ask again."""
    final = Objection(message="stop", final=True)
    later = Objection(message="later", retry=30)
    one = Gate(POLICY, "memory:", plugins=[plugin(sluicegate_object=lambda: final)]).decide(
        Proposal("t", {})
    )
    two = Gate(POLICY, "memory:", plugins=[plugin(sluicegate_object=lambda: later)]).decide(
        Proposal("t", {})
    )
    assert (one.final, one.retry) == (True, "never")
    assert (two.final, two.retry) == (False, 30)
    assert "Stop here" in one.render()


def test_hook_claims():
    """A plugin's claims join the batch: they can only refuse more, and are given back like the rest."""

    def sluicegate_claims(proposal):
        yield Quota("plugin|sms|all", "plugin sms", "sms", 1_000_000, 1_000_000, None, "")

    gate = Gate(POLICY, "memory:", plugins={"sms": plugin(sluicegate_claims=sluicegate_claims)})
    permit = gate.decide(Proposal("t", {"n": 1}))
    refused = gate.decide(Proposal("t", {"n": 2}))
    assert codes(refused) == ["budget"]
    assert refused.reasons[0].rule == "plugin sms"
    assert gate.journal.tail(1)[0].content["claims"][0][0] == "Quota"
    gate.settle(permit, permit.outcome_of(KeyboardInterrupt()))
    assert codes(gate.decide(Proposal("t", {"n": 3}))) == ["budget"]


def test_hook_claims_cannot_ask_a_person():
    """Only the policy says for what a person is asked; a claim that nobody looks at would be a hole."""
    hook = lambda: [Approval("plugin|x", "plugin x", "r", 1)]  # noqa: E731
    gate = Gate(POLICY, "memory:", plugins={"x": plugin(sluicegate_claims=hook)})
    refused = gate.decide(Proposal("t", {"n": 1}))
    assert codes(refused) == ["plugin_error"]
    assert "x: sluicegate_claims gave a Approval, not a claim" in refused.reasons[0].message


def test_hook_record():
    """Entries are told after they are durable; a plugin that fails there changes nothing."""
    told = []

    def sluicegate_record(entry):
        told.append((entry["kind"], entry.get("decision"), entry.get("outcome")))
        raise RuntimeError("log is down")

    gate = Gate(POLICY, "memory:", plugins=[plugin(sluicegate_record=sluicegate_record)])
    permit = gate.decide(Proposal("t", {}))
    gate.settle(permit, Succeeded())
    gate.decide(Proposal("nope", {}))
    assert told == [
        ("decision", "permit", None),
        ("outcome", None, "succeeded"),
        ("decision", "deny", None),
    ]


def test_hook_reconcile():
    """The hook that asks a provider is known, so that plugins may have it today."""
    assert Plugins([plugin(sluicegate_reconcile=lambda permit: None)]).names == ("crm",)


def test_plugins_are_asked_by_name():
    """The order of plugins is that of their names, whatever order they are given in."""
    plugins = {name: plugin(sluicegate_object=lambda name=name: name) for name in ("b", "c", "a")}
    decision = Gate(POLICY, "memory:", plugins=plugins).decide(Proposal("t", {}))
    assert [reason.message for reason in decision.reasons] == ["a: a", "b: b", "c: c"]


def unmarked():
    module = types.ModuleType("crm")
    module.sluicegate_object = lambda proposal: None
    return module


def half_marked():
    module = plugin(sluicegate_record=lambda entry: None)
    module.sluicegate_object = lambda proposal: "never asked"
    return module


def optioned(**options):
    module = types.ModuleType("crm")
    module.sluicegate_object = hookimpl(**options)(lambda proposal: None)
    return module


def wrapping():
    module = types.ModuleType("crm")

    @hookimpl(wrapper=True)
    def sluicegate_object(proposal):
        return (yield) and None

    module.sluicegate_object = sluicegate_object
    return module


async def later(proposal):
    return None


@pytest.mark.parametrize(
    ("plugins", "problem"),
    [
        ([unmarked()], "no hook marked"),
        ([half_marked()], "lacks @sluicegate.hookimpl"),
        ([types.ModuleType("empty")], "no hook marked"),
        ([plugin(sluicegate_objekt=lambda proposal: None)], "sluicegate_objekt"),
        ([plugin(sluicegate_object=lambda propsal: None)], "propsal"),
        ([plugin(sluicegate_object=later)], "may not be async"),
        ([optioned(tryfirst=True)], "neither wrap nor reorder"),
        ([optioned(trylast=True)], "neither wrap nor reorder"),
        ([wrapping()], "neither wrap nor reorder"),
        (["not-installed"], "no installed package has the entry point 'not-installed'"),
        ("crm", r"write a list: plugins=\['crm'\]"),
        (
            [plugin(sluicegate_object=lambda: None), plugin(sluicegate_object=lambda: None)],
            "two plugins are called 'crm'",
        ),
    ],
)
def test_a_plugin_that_is_not_fit_is_refused(plugins, problem):
    """A plugin that would not be asked, or could do more than object, is refused when the gate is made."""
    with pytest.raises(PluginError, match=problem):
        Gate(POLICY, "memory:", plugins=plugins)


def test_installed_is_not_loaded(monkeypatch):
    """Without being named, an installed plugin is not even looked for."""
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: pytest.fail("looked"))
    assert isinstance(Gate(POLICY, "memory:").decide(Proposal("t", {})), Permit)


def test_the_spec_has_five_hooks():
    """There are five hooks, and each says in its docstring what failing means."""
    import sluicegate.hookspec as specs

    hooks = [value for name, value in vars(specs).items() if name.startswith("sluicegate_")]
    assert len(hooks) == 5
    assert all(hasattr(hook, hookspec.project_name + "_spec") for hook in hooks)
    assert all("failing" in (hook.__doc__ or "").lower() for hook in hooks)
