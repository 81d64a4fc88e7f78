"""
For those who write an adapter: all that is the same for every framework.

An adapter answers five questions: which tool, which arguments, who, which run and
call id, and how a no looks to this framework. With the answers it makes an `Attempt`
and hands it to `carry_out`, which decides, runs and settles. `Shape` knows how a tool
takes its arguments. `sluicegate.testing.AdapterContract` says whether it all holds.
"""

from __future__ import annotations

from ..context import in_a_call
from .attempt import Attempt, No, acarry_out, arecord, carry_out, record, recorded_text
from .shape import STEADY, Receive, Shape, jsonable
from .surroundings import Underway, inside, own_run, underway
from .unfit import SubjectSource, Unfit, subject_of

__all__ = [
    "STEADY",
    "Attempt",
    "No",
    "Receive",
    "Shape",
    "SubjectSource",
    "Underway",
    "Unfit",
    "acarry_out",
    "arecord",
    "carry_out",
    "in_a_call",
    "inside",
    "jsonable",
    "own_run",
    "record",
    "recorded_text",
    "subject_of",
    "underway",
]
