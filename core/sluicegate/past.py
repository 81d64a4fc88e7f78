"""
What a journal says, made into values again: policies, schemas, proposals, permits.

Nothing here is remembered from when it happened: all of it comes from the entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from .canonical import FrozenDict, freeze
from .decision import Code, Permit, Reason
from .entries import claims_of
from .errors import LedgerError
from .evaluate import Allowed, Objected, Verdict, evaluate
from .proposal import Proposal
from .requests import claiming
from .schema import Schema

if TYPE_CHECKING:
    from .ledger.base import Claiming
    from .policy.compile import CompiledPolicy

__all__ = ["INPUTS", "NotKept", "Past"]

INPUTS: Final = frozenset({"objection", "plugin_error"})
"""Codes of reasons that plugins gave: they are what a decision was made from, not what it gave."""


class NotKept(LedgerError):
    """The journal does not have what it takes to derive the decision again, and says so."""


class Past:
    """Policies and schemas of a journal, as far as they were shown to `learn`."""

    def __init__(self) -> None:
        self.policies: dict[str, CompiledPolicy] = {}
        self.schemas: dict[str, Schema] = {}

    def learn(self, entry: Mapping[str, Any]) -> None:
        """Take note of an entry that keeps a policy or a schema."""
        if entry["kind"] == "policy":
            from .policy.compile import CompiledPolicy
            from .policy.model import Policy

            self.policies[entry["policy"]] = CompiledPolicy(Policy.of(entry["document"]))
        elif entry["kind"] == "schema":
            self.schemas[entry["schema"]] = Schema(entry["document"])

    def policy(self, entry: Mapping[str, Any]) -> CompiledPolicy:
        """The policy that decided. Raises NotKept."""
        found = self.policies.get(entry["policy"])
        if found is None:
            raise NotKept(
                f"the journal has no policy {entry['policy'][:19]}…, by which this was decided"
            )
        return found

    def proposal(self, entry: Mapping[str, Any]) -> Proposal:
        """The proposal that was decided about. Raises NotKept."""
        said = entry["proposal"]
        if "args_digest" in said:
            raise NotKept(
                f"{said['tool']} has `record: digest`: the journal has no arguments of its calls"
            )
        schema = None
        if said["schema"] is not None:
            schema = self.schemas.get(said["schema"])
            if schema is None:
                raise NotKept(f"the journal has no schema {said['schema'][:19]}… of {said['tool']}")
        return Proposal.restored(said, schema, _flaw(said, entry))

    def verdict(self, entry: Mapping[str, Any], policy: CompiledPolicy) -> Verdict:
        """What *policy* says of the proposal, given the recorded facts and objections. Raises NotKept."""
        proposal = self.proposal(entry)
        given = [_reason(reason) for reason in entry.get("reasons", ()) if reason["code"] in INPUTS]
        failed = [
            reason for reason in given if reason.code == "plugin_error" and reason.rule == "plugins"
        ]
        if failed:  # the plugins failed before the policy was asked
            return Objected(tuple(failed))
        facts = cast("FrozenDict", freeze(entry["facts"])[0])
        verdict = evaluate(policy, proposal, facts, entry["now"])
        if not given:
            return verdict
        before = () if type(verdict) is Allowed else verdict.reasons  # type: ignore[union-attr]
        return Objected((*before, *given))

    def claiming(self, entry: Mapping[str, Any], policy: CompiledPolicy) -> Claiming:
        """The request that the gate made for a decision entry. Raises NotKept."""
        verdict = self.verdict(entry, policy)
        permit = entry.get("permit") or entry.get("request", "").partition(".")[2] or "replayed"
        observed = entry["decision"] == "observed"
        return claiming(
            policy,
            self.proposal(entry),
            entry["now"],
            verdict,
            permit=permit if observed or type(verdict) is Allowed else "",
            facts=freeze(entry["facts"])[1],
            extra=claims_of(entry.get("claims", ())) if type(verdict) is Allowed else (),
            final=bool(entry.get("stops")),
            observe=observed,
        )._replace(now=entry["at"], patient=False)

    def permit(self, entry: Mapping[str, Any]) -> Permit:
        """The permit that a decision entry gave. Raises NotKept."""
        policy = self.policy(entry)
        tool = entry["proposal"]["tool"]
        rule = policy.rule(tool)
        common: dict[str, Any] = {
            "id": entry["permit"],
            "tool": tool,
            "at": entry["at"],
            "expires_at": entry["at"] + entry["lease"],
            "revision": entry["policy"],
            "on_error": "unknown" if rule is None else rule.on_error,
        }
        if entry.get("record") == "digest":
            claims = claims_of(entry.get("claims", ()))
            return Permit(args={}, claims=claims, binding="", digest=True, **common)
        request, proposal = self.claiming(entry, policy), self.proposal(entry)
        verdict = self.verdict(entry, policy)
        if type(verdict) is not Allowed:
            raise NotKept(f"entry of permit {entry['permit']}: its policy does not permit the call")
        approval = () if request.approval is None else (request.approval,)
        return Permit(
            args=verdict.args,
            claims=(*request.claims, *approval),
            binding=request.binding,
            costs=verdict.costs,
            key=verdict.key,
            proposal=proposal,
            rule=rule,
            **common,
        )


def _reason(told: Mapping[str, Any]) -> Reason:
    return Reason(told["code"], told["rule"], told["message"], told["retry"])


def _flaw(said: Mapping[str, Any], entry: Mapping[str, Any]) -> Reason | None:
    """An adapter's own reason, which is in the decision as it gave it."""
    code: Code | None = said.get("defect_code")
    if code is None:
        return None
    known = (_reason(reason) for reason in entry.get("reasons", ()) if reason["code"] == code)
    return next((flaw for flaw in known if flaw.message == said["defect"]), None) or Reason(
        code, said["source"] or "proposal", said["defect"]
    )
