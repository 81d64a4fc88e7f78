"""
What a CRM knows about the customer of a call, for the policies of Sluicegate.

Four of the five hooks. None of them can permit a call: facts are there for the policy
to judge, an objection refuses, a claim is one more limit, and a record is only read.
The CRM is a JSON file here, named by SLUICEGATE_CRM_FILE; yours is a database or an API.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sluicegate import Objection, Proposal, hookimpl
from sluicegate.claims import Claim, Quota
from sluicegate.window import Window

CALLS_A_WEEK = 3

log = logging.getLogger(__name__)


@hookimpl
def sluicegate_facts(proposal: Proposal) -> Mapping[str, Any] | None:
    """Look the customer up. Here I/O is fine; if it fails, the call is refused."""
    customer_id = proposal.args.get("customer_id")
    if customer_id is None:
        return None  # nothing to say about this call; a rule that needs facts.crm refuses it
    customers = json.loads(Path(os.environ["SLUICEGATE_CRM_FILE"]).read_text("utf-8"))
    known: Mapping[str, Any] = customers.get(customer_id, {"known": False})
    return known


@hookimpl
def sluicegate_object(proposal: Proposal, facts: Mapping[str, Any]) -> str | Objection | None:
    """Refuse what no policy should have to remember."""
    customer = facts.get("crm", {})
    if customer.get("legal_hold"):
        return Objection(message="this customer's data is under legal hold", final=True)
    if customer.get("known") is False:
        return "there is no such customer; look the id up first"
    return None


@hookimpl
def sluicegate_claims(proposal: Proposal) -> Iterable[Claim]:
    """Limit contacts per customer, in the same transaction as the limits of the policy."""
    customer_id = proposal.args.get("customer_id")
    if proposal.tool == "send_email" and isinstance(customer_id, str):
        yield Quota(
            key=f"plugin|crm|contacts|{customer_id}",
            rule="plugin crm",
            name="contacts",
            amount=1_000_000,  # amounts are in millionths
            limit=CALLS_A_WEEK * 1_000_000,
            window=Window.week,
            scope=f" for customer {customer_id}",
        )


@hookimpl
def sluicegate_record(entry: Mapping[str, Any]) -> None:
    """Tell somebody about refusals; what happens here changes no decision any more."""
    if entry["kind"] == "decision" and entry["decision"] == "deny":
        codes = ", ".join(reason["code"] for reason in entry["reasons"])
        log.warning("%s was refused: %s", entry["proposal"]["tool"], codes)
