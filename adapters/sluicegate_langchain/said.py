"""What was said before a call: the user's words, and the message of the model that the call came in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from langchain_core.messages import AIMessage, HumanMessage

from sluicegate.canonical import is_object

__all__ = ["UNHEARD", "Said"]

_SUMMARY: Final = "Here is a summary of the conversation to date:"
"""How LangChain's SummarizationMiddleware begins what a model wrote; older versions mark it in no other way."""


class Said(NamedTuple):
    """
    What the *messages* of a state say about a call of the last turn; None where they do not say it.

    *prompt* is the text of all messages of the user. Inside of a running tool there is
    none: an agent there is told what to do by a model. *turn* is the id of the last
    message of the model: LangGraph runs the calls of no other.
    """

    prompt: str | None
    turn: str | None

    @staticmethod
    def of(state: Any, key: str) -> Said:
        """What is said in *state*, which has its messages under *key* or is a list of them."""
        found = state.get(key) if is_object(state) else getattr(state, key, state)
        messages = cast("Sequence[Any]", found if isinstance(found, (list, tuple)) else ())
        words = [text for message in messages for text in _words(message)]
        turns = (message.id for message in reversed(messages) if isinstance(message, AIMessage))
        return Said("\n\n".join(words) or None, next(turns, None) or None)


UNHEARD: Final = Said(None, None)
"""Where there are no messages."""


def _words(message: object) -> list[str]:
    """What the user said in *message*: each block of it apart, or two would make one word."""
    if not isinstance(message, HumanMessage) or "lc_source" in message.additional_kwargs:
        return []
    content: Any = message.content
    blocks = cast("list[object]", content if isinstance(content, list) else [content])
    texts = [block.get("text") if is_object(block) else block for block in blocks]
    words = [text for text in texts if isinstance(text, str)]
    return [] if words and words[0].startswith(_SUMMARY) else words
