"""The end of a kickoff: a crew that says it is done and has not done what it owes is not done."""

from __future__ import annotations

import logging
from typing import Any, Final
from weakref import WeakValueDictionary

from crewai import Crew
from crewai.crews.crew_output import CrewOutput
from crewai.utilities.crew.crew_context import get_crew_context

from sluicegate import Gate, Unfinished, current
from sluicegate.adapting import in_a_call

__all__ = ["ENDINGS", "called"]

_log: Final = logging.getLogger("sluicegate")
_CALLED: Final[WeakValueDictionary[str, Crew]] = WeakValueDictionary()
_GATES: Final[WeakValueDictionary[str, Gate]] = WeakValueDictionary()


def called(crew: Any, gate: Gate) -> None:
    """Remember that *crew*, which may be a copy of a guarded one, has called a tool that *gate* guards."""
    if crew is not None:
        _CALLED[str(crew.id)], _GATES[str(crew.id)] = crew, gate


def _raise_unfinished(result: Any) -> Any:
    return _ended(result, tell=False)


def _tell_unfinished(result: Any) -> Any:
    return _ended(result, tell=True)


# CrewAI gives these the answer and nothing else, and hands them on to copies of a crew by
# their name: so they are functions of a module, and have to find out whose end this is.
ENDINGS: Final = {"raise": _raise_unfinished, "tell": _tell_unfinished}


def _ended(result: Any, *, tell: bool) -> Any:
    here, run = get_crew_context(), current().run
    name = str(here and here.id)
    crew: Any = _CALLED.get(name)
    if crew is None or (run is not None and in_a_call()):
        return result  # it has called nothing, or the run around the tool is the one that owes
    gate = _GATES[name]
    report = gate.finish(run or crew._kickoff_event_id)
    if report.fulfilled:
        return result
    if not (tell or gate.observe):
        raise Unfinished(report)
    _log.warning("%s", report.render())
    if tell and isinstance(result, CrewOutput):
        result.raw = f"{result.raw}\n\n{report.render()}"
    return result
