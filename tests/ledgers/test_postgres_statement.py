"""Statements for PostgreSQL: whatever is in a value, the server reads that value and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pg_server
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sluicegate.ledger.postgres.address import Address
from sluicegate.ledger.postgres.line import Line, connected
from sluicegate.ledger.postgres.statement import Statement, identifier

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.text(
    "'\\\"{},;-$%E e\n\r\t\x7f\x85é€😀"
)
ASKED = Statement(
    "SELECT %s::text, to_json(%s::text[])::text, %s::bigint, %s::boolean, %s::text[] IS NULL, "
    "to_json(%s::bigint[])::text"
)


@pytest.fixture(scope="module", params=["on", "off"])
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    """A connection that reads backslashes in plain quotes as SQL does, or as PostgreSQL once did."""
    with closing(connected(Address.read(pg_server.shared()))) as made:
        try:
            made.rows(Statement(f"SET standard_conforming_strings = {request.param}"))
        except psycopg.Error:
            pytest.skip("this PostgreSQL cannot be told to do so any more")
        made.rows(Statement("SET escape_string_warning = off"))
        yield made


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, st.lists(TEXTS), st.integers(1 - 2**63, 2**63 - 1), st.booleans())
@example("\\'; DROP TABLE x; --", ["\\", "'", "\\'", "''", '"', "{}", "NULL", ""], -1, True)
def test_what_is_said_is_what_the_server_reads(
    line: Line, text: str, texts: list[str], number: int, truth: bool
) -> None:
    """Quotes, backslashes, braces and line ends in any order mean themselves, under either setting."""
    numbers = [number, 0]
    ((*plain, as_json),) = line.rows(ASKED, text, texts, number, truth, None, numbers)
    told = line.rows(
        Statement("SELECT x FROM unnest(%s::text[]) WITH ORDINALITY u(x, n) ORDER BY n"), texts
    )
    assert [plain[0], *plain[2:]] == [text, number, truth, True]
    assert [row[0] for row in told] == texts
    assert as_json == f"[{number},0]"


def test_what_no_text_can_hold_is_an_error(line: Line) -> None:
    """NUL and half a character are refused before anything is sent."""
    with pytest.raises(psycopg.DataError, match="NUL"):
        line.rows(Statement("SELECT %s"), "a\0b")
    with pytest.raises(psycopg.DataError, match="NUL"):
        line.rows(Statement("SELECT %s::text[]"), ["a", "\0"])
    with pytest.raises(UnicodeEncodeError):
        line.rows(Statement("SELECT %s"), "\ud800")
    assert line.rows(Statement("SELECT 1")) == [(1,)]


def test_a_name_is_a_name(line: Line) -> None:
    """Quotes in an identifier end nothing."""
    name = identifier('a"; b')
    assert line.rows(Statement("SELECT x.{name} FROM (SELECT 7 AS {name}) x", name=name)) == [(7,)]
