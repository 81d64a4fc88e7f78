"""`sluicegate test`: calls, and the decisions that a policy must give about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import typer
from pydantic import AfterValidator, BeforeValidator, Field
from rich.padding import Padding
from rich.text import Text

from ..decision import Code, Decision, Defer, Deny, Permit, Reason
from ..errors import SluicegateError
from ..gate import Gate
from ..hookspec import hookimpl
from ..ledger.memory import MemoryLedger
from ..outcome import Failed, Succeeded, Unknown
from ..policy.base import Model
from ..policy.fault import Fault, shown
from ..policy.model import Policy
from ..policy.units import duration
from ..testing.clock import FakeClock, counted_ids
from .explain import decision_word
from .proposed import Proposed, Who, read
from .sources import DEFAULT, policy_file
from .terminal import NO, Json, answering, plain, print_json, screen

__all__ = ["Suite", "policy_test", "results"]

_RUN: Final = "test"
_MOST: Final = 10_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)

Word: TypeAlias = Literal["permit", "deny", "defer", "recorded"]


def _moment(value: object) -> object:
    """A time with its offset from UTC, in µs since 1970."""
    fault = Fault(f"is {shown(value)}, which is no time", "write 2026-03-01T12:00:00Z")
    if not isinstance(value, str):
        raise fault
    try:
        found = datetime.fromisoformat(value.removesuffix("Z") + "+00:00" * value.endswith("Z"))
    except ValueError:
        raise fault from None
    if found.tzinfo is None:
        raise Fault(f"is {value}, in no time zone", f"write {value}Z for UTC")
    return (found - _EPOCH) // timedelta(microseconds=1)


def _positive(value: int) -> int:
    if not 1 <= value <= _MOST:
        raise Fault(f"is {value}", f"write a number from 1 to {_MOST:,}")
    return value


def _some(value: tuple[PolicyTest, ...]) -> tuple[PolicyTest, ...]:
    if not value:
        raise Fault("is empty", "no tests are no tests that passed; write one")
    return value


_Span = Annotated[int, BeforeValidator(duration)]
_Time = Annotated[int, BeforeValidator(_moment)]
_Times = Annotated[int, AfterValidator(_positive)]
_Codes = Annotated[tuple[Code, ...], Field(strict=False)]
_Facts = Mapping[str, Mapping[str, Any]]


class Given(Proposed):
    """A call that happened before: proposed, decided, and settled with its outcome."""

    after: _Span = 0
    times: _Times = 1
    expect: Word = "permit"
    outcome: Literal["succeeded", "failed", "unknown", "running"] = "succeeded"
    result: Any = None
    cost: Mapping[str, Any] = Field(default_factory=dict)
    approved_by: str | None = None
    rejected_by: str | None = None


class PolicyTest(Model):
    """One test: what happened before, a proposal, and the decision that it must get."""

    name: str
    given: tuple[Given, ...] = Field(default=(), strict=False)
    subject: Who | None = None
    run: str | None = None
    facts: _Facts = Field(default_factory=dict)
    after: _Span = 0
    proposal: Proposed
    expect: Word
    codes: _Codes | None = None
    rules: Annotated[tuple[str, ...] | None, Field(strict=False)] = None


class Suite(Model):
    """A file of policy tests."""

    policy: str | None = None
    now: _Time | None = None
    subject: Who | None = None
    run: str | None = _RUN
    facts: _Facts = Field(default_factory=dict)
    tests: Annotated[tuple[PolicyTest, ...], Field(strict=False), AfterValidator(_some)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one test. *problem* says what is not as it must be; empty if it passed."""

    name: str
    expected: str
    got: str
    reasons: tuple[Reason, ...]
    problem: str = ""


def policy_test(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The tests, as YAML or JSON.")
    ] = Path("policy_tests.yaml"),
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            "-p",
            metavar="FILE",
            help="The policy.  [default: what the tests name, or sluicegate.yaml]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Try calls against a policy, and compare the decisions with those that they must get.

    Each test has a ledger and a clock of its own, so tests do not depend on one
    another. Plugins are not loaded; `facts` stands in for theirs. Exit code 1: a
    test failed.

    \b
    Examples:
      sluicegate test
      sluicegate test tests/refunds.yaml --policy policies/desk.yaml
      sluicegate test --json | jq '.tests[] | select(.ok | not)'

    \b
    A file of tests:
      tests:
        - name: the same refund is not paid twice
          given:
            - {tool: issue_refund, args: {order_id: A-1, eur: 40}, result: paid}
          proposal: {tool: issue_refund, args: {order_id: A-1, eur: 40}}
          expect: recorded
    """
    with answering(as_json):
        suite = read(file, Suite, "file of tests")
        chosen = policy or (file.parent / suite.policy if suite.policy else DEFAULT)
        loaded = Policy.load(policy_file(chosen))
        found = list(results(suite, loaded))
        failed = [result for result in found if result.problem]
        if as_json:
            told = [_json(result) for result in found]
            print_json({"ok": not failed, "file": str(file), "policy": str(chosen), "tests": told})
        else:
            _show(found, len(failed))
        if failed:
            raise typer.Exit(NO)


# --- carrying out -----------------------------------------------------------------------------------


def results(suite: Suite, policy: Policy) -> Iterator[Result]:
    """What becomes of each test of *suite* under *policy*, in order. Raises WrongUse or PolicyError."""
    for test in suite.tests:
        clock = FakeClock() if suite.now is None else FakeClock(suite.now)
        facts = {**suite.facts, **test.facts}
        plugins = {name: _Knows(value) for name, value in facts.items()}
        with Gate(policy, MemoryLedger(), clock=clock, ids=counted_ids(), plugins=plugins) as gate:
            yield _Bench(gate, clock, suite, test).result()


class _Knows:
    """A plugin that knows one thing."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = facts

    @hookimpl
    def sluicegate_facts(self) -> Mapping[str, Any]:
        return self._facts


class _Bench:
    """One test with a gate of its own."""

    def __init__(self, gate: Gate, clock: FakeClock, suite: Suite, test: PolicyTest) -> None:
        self._gate = gate
        self._clock = clock
        self._test = test
        self._who = test.subject or suite.subject
        self._run = test.run if "run" in test.model_fields_set else suite.run

    def result(self) -> Result:
        """Let happen what is given, propose, and compare."""
        test = self._test
        for index, given in enumerate(test.given):
            for _ in range(given.times):
                decision, problem = self._given(given)
                if problem:
                    where = f"given[{index}] ({given.tool}): {problem}"
                    return self._answer(decision, where)
        self._clock.advance(test.after / 1_000_000)
        decision = self._gate.decide(test.proposal.proposal(self._who, self._run))
        return self._answer(decision, "; ".join(_differences(test, decision)))

    def _given(self, given: Given) -> tuple[Decision, str]:
        gate = self._gate
        self._clock.advance(given.after / 1_000_000)
        decision = gate.decide(given.proposal(self._who, self._run))
        asked = given.approved_by or given.rejected_by
        wanted = "defer" if asked else given.expect
        word = decision_word(decision)
        if word != wanted:
            why = "".join(f"; {reason.code}: {reason.message}" for reason in _reasons(decision))
            return decision, f"expected {wanted}, got {word}{why}"
        try:
            if isinstance(decision, Permit):
                self._settle(decision, given)
            elif isinstance(decision, Defer) and given.approved_by:
                gate.approve(decision.request_id, by=given.approved_by)
            elif isinstance(decision, Defer) and given.rejected_by:
                gate.reject(decision.request_id, by=given.rejected_by)
        except (SluicegateError, ValueError) as error:
            return decision, str(error)
        return decision, ""

    def _settle(self, permit: Permit, given: Given) -> None:
        if given.outcome == "succeeded":
            self._gate.settle(permit, Succeeded(given.result, cost=given.cost))
        elif given.outcome == "failed":
            self._gate.settle(permit, Failed("it failed in this test"))
        elif given.outcome == "unknown":
            self._gate.settle(permit, Unknown("it is not known in this test"))

    def _answer(self, decision: Decision, problem: str) -> Result:
        test = self._test
        codes = f" ({', '.join(test.codes)})" if test.codes else ""
        return Result(
            name=test.name,
            expected=f"{test.expect}{codes}",
            got=decision_word(decision),
            reasons=_reasons(decision),
            problem=problem,
        )


def _differences(test: PolicyTest, decision: Decision) -> Iterator[str]:
    word, reasons = decision_word(decision), _reasons(decision)
    if word != test.expect:
        yield f"expected {test.expect}, got {word}"
    for name, wanted, found in (
        ("codes", test.codes, {reason.code for reason in reasons}),
        ("rules", test.rules, {reason.rule for reason in reasons}),
    ):
        if wanted is not None and set(wanted) != found:
            told = ", ".join(sorted(found)) or "none"
            yield f"expected the {name} {', '.join(sorted(wanted)) or 'none'}, got {told}"


def _reasons(decision: Decision) -> tuple[Reason, ...]:
    return decision.reasons if isinstance(decision, (Deny, Defer)) else ()


# --- telling ------------------------------------------------------------------------------------------


def _json(result: Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "ok": not result.problem,
        "problem": result.problem,
        "expected": result.expected,
        "decision": result.got,
        "reasons": [
            {"code": reason.code, "rule": reason.rule, "message": reason.message}
            for reason in result.reasons
        ],
    }


def _show(found: list[Result], failed: int) -> None:
    out = screen()
    for result in found:
        if not result.problem:
            out.print(Text.assemble(("passed", "green"), "  ", plain(result.name)))
            continue
        out.print(Text.assemble(("FAILED", "bold red"), "  ", (plain(result.name), "bold")))
        out.print(Padding(Text(plain(result.problem)), (0, 0, 0, 8), expand=False))
        for reason in result.reasons:
            text = plain(f"{reason.code} ({reason.rule}): {reason.message}")
            out.print(Padding(Text(text, style="dim"), (0, 0, 0, 8), expand=False))
    told = f"{len(found) - failed} passed"
    if failed:
        out.print(Text(f"{told}, {failed} failed", style="red"))
    else:
        out.print(Text(told, style="green"))
