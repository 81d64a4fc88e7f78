"""A journal that is shortened by `sluicegate housekeep --archive`, and the commands that read it."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sluicegate import Gate, Permit, Proposal, Subject, Succeeded
from sluicegate.journal import GENESIS, Entry, link
from sluicegate.journal import exported as exported_lines
from sluicegate.testing import FakeClock, counted_ids

Run = Callable[..., Any]

NOON = 4_102_488_000_000_000
"""2100-01-01 12:00 UTC: later than the program's own clock, which then stands still there."""

DAY = 86_400
POLICY = """\
version: 1
tools:
  get_order: {effect: read}
  pay: {once: {key: "pay:{order}"}, cost: {eur: 1}}
limits:
  - {budget: eur, limit: 20000, per: [tenant], window: day}
contracts:
  - {when: pay, then: get_order}
"""


class Till:
    """Makes calls, at a time that only goes on when it is told to."""

    def __init__(self) -> None:
        self._clock = FakeClock(NOON)
        self._ids = counted_ids()

    def work(self, *orders: str, run: str = "monday") -> None:
        """Pay each order: two entries, or one if it was paid before."""
        with Gate("sluicegate.yaml", clock=self._clock, ids=self._ids) as gate:
            for order in orders:
                self._clock.advance(1)
                who = Subject(tenant="acme")
                decision = gate.decide(Proposal("pay", {"order": order}, subject=who, run=run))
                if isinstance(decision, Permit):
                    gate.settle(decision, Succeeded({"paid": order}))

    def wait(self, days: int) -> None:
        self._clock.advance(days * DAY)


@pytest.fixture
def till(folder: Path) -> Till:
    """A till in the current folder: 21 entries of long ago, and 4 of now in other runs."""
    (folder / "sluicegate.yaml").write_text(POLICY, encoding="utf-8")
    made = Till()
    made.work(*(f"A{number}" for number in range(10)))
    made.wait(100)
    made.work("Z", run="thursday")
    made.work("B", run="friday")
    return made


@pytest.fixture
def short(run: Run, till: Till) -> Till:
    """The same, with the old entries in the archive `old`, and a head that was kept before."""
    assert run("journal", "export", "-o", "before.jsonl").exit_code == 0
    assert run("housekeep", "--archive", "old").exit_code == 0
    return till


def said(result: Any) -> str:
    """All that was printed, on one line."""
    return " ".join(result.output.split())


def exported(run: Run, *options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("journal", "export", *options).stdout.splitlines()]


def head(seq: int, file: str = "before.jsonl") -> str:
    """An entry as somebody kept it who had the whole journal."""
    return f"{seq}:{json.loads(Path(file).read_text('utf-8').splitlines()[seq - 1])['hash']}"


def tamper(*statements: str) -> None:
    with closing(sqlite3.connect(".sluicegate/ledger.db")) as db, db:
        for statement in statements:
            assert db.execute(statement).rowcount > 0


# --- moving ----------------------------------------------------------------------------------------


def test_old_entries_move_to_files(run: Run, till: Till) -> None:
    """It says how many, where to, and in which files; the rest of the journal begins behind them."""
    result = run("housekeep", "--archive", "old")
    assert result.exit_code == 0
    assert "21 moved of the entries of the journal to old, in 1 segment" in result.stdout
    [file] = Path("old").iterdir()
    assert re.fullmatch(r"journal-00000001-[0-9a-f]{12}\.jsonl", file.name)
    assert f"  {file.name}\n" in result.stdout
    assert "entries of the journal for 90d." in said(result)
    assert exported(run)[0]["seq"] == 22
    assert [json.loads(line)["seq"] for line in file.read_text("utf-8").splitlines()] == [
        *range(1, 22)
    ]
    assert "0 moved of the entries" in run("housekeep", "--archive", "old").stdout


def test_moving_as_json(run: Run, till: Till) -> None:
    """The same for programs; without an archive there is nothing to tell."""
    assert json.loads(run("housekeep", "--json").stdout)["archived"] is None
    told = json.loads(run("housekeep", "--archive", "old", "--json").stdout)
    files = [file.name for file in Path("old").iterdir()]
    assert told["archived"] == {"folder": "old", "entries": 21, "segments": 1, "files": files}


def test_what_is_younger_stays(run: Run, till: Till) -> None:
    """As long as --keep-journal says, and 90 days if it says nothing."""
    assert "0 moved" in run("housekeep", "--archive", "old", "--keep-journal", "101d").stdout
    assert exported(run)[0]["seq"] == 1
    assert "21 moved" in run("housekeep", "--archive", "old", "--keep-journal", "99d").stdout
    assert "6 moved" in run("housekeep", "--archive", "old", "--keep-journal", "0s").stdout


def test_a_dry_run_counts_what_would_move(run: Run, till: Till) -> None:
    """It counts what a real one moves then, and changes neither journal nor folder."""
    before = exported(run)
    result = run("housekeep", "--archive", "old", "--dry-run")
    assert "21 would be moved of the entries of the journal to old, in 1 segment" in result.stdout
    told = json.loads(run("housekeep", "--archive", "old", "--dry-run", "--json").stdout)
    assert told["archived"] == {"folder": "old", "entries": 21, "segments": 1, "files": []}
    assert exported(run) == before
    assert not Path("old").exists()
    assert "21 moved" in run("housekeep", "--archive", "old").stdout
    assert "0 would be moved" in run("housekeep", "--archive", "old", "--dry-run").stdout


@pytest.mark.parametrize(
    ("arguments", "problem", "hint"),
    [
        (("--keep-journal", "90d"), "nothing says where to", "--archive DIR"),
        (("--archive", "old", "--keep-journal", "old"), "--keep-journal is 'old'", "a unit"),
        (("--archive", "sluicegate.yaml"), "sluicegate.yaml cannot be made", "you may write"),
        (("--archive", "sluicegate.yaml/old"), "cannot be made", "nothing was changed"),
    ],
)
def test_wrong_use_changes_nothing(
    run: Run, till: Till, arguments: tuple[str, ...], problem: str, hint: str
) -> None:
    """Exit code 2 with the way out; cells and journal are as they were."""
    before = exported(run)
    result = run("housekeep", *arguments)
    assert result.exit_code == 2
    assert problem in said(result)
    assert hint in said(result)
    assert exported(run) == before
    assert not Path("old").exists()


def test_a_folder_that_takes_no_file_removes_nothing(run: Run, till: Till) -> None:
    """Full, or not ours to write to: exit code 2, and every entry is where it was."""
    if not Path("/proc/self").exists():
        pytest.skip("no folder here refuses files to everybody")
    before = exported(run)
    result = run("housekeep", "--archive", "/proc")
    assert result.exit_code == 2
    assert "nothing was removed from the journal" in said(result)
    assert exported(run)[: len(before)] == before
    assert run("replay").exit_code == 0


def test_the_archive_of_another_ledger_is_refused(run: Run, short: Till) -> None:
    """Two ledgers in one folder could not be told apart later."""
    assert run("housekeep", "--archive", "old", "--keep-journal", "0s").exit_code == 0
    shutil.rmtree(".sluicegate")
    Till().work("C")
    result = run("housekeep", "--archive", "old", "--keep-journal", "0s")
    assert result.exit_code == 2
    assert "give each ledger a folder of its own" in said(result)
    assert exported(run)[0]["seq"] == 1


def test_three_rounds_of_work_and_housekeeping(run: Run, till: Till) -> None:
    """Archive and journal together are the whole one: it verifies, and every decision follows."""
    for number in range(3):
        till.work("A3", f"C{number}", run=f"round-{number}")
        till.wait(50)
        till.work("A3", run=f"round-{number}")
        assert run("housekeep", "--archive", "old", "--keep-journal", "40d").exit_code == 0
    assert len(list(Path("old").iterdir())) == 3
    whole = exported(run, "--archive", "old")
    assert [entry["seq"] for entry in whole] == [*range(1, len(whole) + 1)]
    assert sum(entry["entry"]["kind"] == "archived" for entry in whole) == 3
    result = run("replay", "--archive", "old")
    assert result.exit_code == 0
    assert f"follow from {len(whole)} entries" in result.stdout
    assert run("journal", "verify", "--archive", "old").exit_code == 0
    paid = [entry["entry"] for entry in whole if entry["entry"].get("decision") == "recorded"]
    assert len(paid) == 6, "A3 was paid once, and its result was found each time"


def test_a_ledger_put_back_from_a_copy_goes_on(run: Run, short: Till) -> None:
    """What its archive got since is moved away; archive and journal are one whole chain again."""
    shutil.copytree(".sluicegate", "copy")
    for order in ("C", "D"):
        short.wait(100)
        short.work(order, run="sunday")
        run("housekeep", "--archive", "old")
    shutil.rmtree(".sluicegate")
    shutil.copytree("copy", ".sluicegate")
    short.work("E", run="sunday")
    refused = run("housekeep", "--archive", "old")
    assert refused.exit_code == 2
    assert "of which 1 are archived" in said(refused)
    known = json.loads(run("journal", "verify", "--json").stdout)["archived"]["segments"]
    for file in sorted(Path("old").iterdir())[known:]:
        file.unlink()
    assert "moved" in run("housekeep", "--archive", "old").stdout
    assert run("journal", "verify", "--archive", "old").exit_code == 0
    assert run("replay", "--archive", "old").exit_code == 0


# --- verify ----------------------------------------------------------------------------------------


def test_verify_says_where_a_shortened_journal_begins(run: Run, short: Till) -> None:
    """Whole, from which entry on, and how much is elsewhere."""
    result = run("journal", "verify")
    assert result.exit_code == 0
    assert re.match(
        r"whole: \d entries, each follows the one before, from entry 22 on\n", result.stdout
    )
    assert "21 entries were moved to an archive, in 1 segment; --archive DIR" in result.stdout
    told = json.loads(run("journal", "verify", "--json").stdout)
    [writer] = told["archived"].pop("begins").items()
    assert writer[1] == 22
    assert told["archived"] == {"segments": 1, "entries": 21}


def test_verify_reads_the_archive_with_it(run: Run, short: Till) -> None:
    """From the first entry on, in one chain."""
    result = run("journal", "verify", "--archive", "old")
    assert result.exit_code == 0
    assert "on\n" not in result.stdout
    assert "21 entries were moved to an archive, in 1 segment\n" in result.stdout
    told = json.loads(run("journal", "verify", "--archive", "old", "--json").stdout)
    assert list(told["archived"]["begins"].values()) == [1]
    assert told["head"]["seq"] == exported(run)[-1]["seq"]


def test_a_journal_that_was_never_shortened_says_nothing_of_it(run: Run, till: Till) -> None:
    """For programs there is null."""
    assert "archive" not in run("journal", "verify").stdout
    assert json.loads(run("journal", "verify", "--json").stdout)["archived"] is None


def test_a_segment_that_was_changed_is_found(run: Run, short: Till) -> None:
    """One digit in the archive: that entry, and exit code 1."""
    [file] = Path("old").iterdir()
    file.write_text(file.read_text("utf-8").replace('"paid":"A4"', '"paid":"A5"'), encoding="utf-8")
    result = run("journal", "verify", "--archive", "old")
    assert result.exit_code == 1
    assert "broken: entry 11 was changed" in result.stdout
    told = json.loads(run("journal", "verify", "--archive", "old", "--json").stdout)
    assert told["archived"] is None
    assert run("journal", "verify").exit_code == 0


def test_the_oldest_segments_may_be_deleted(run: Run, short: Till) -> None:
    """What is left verifies, and verify says that it is not all; what is deleted in between shows."""
    short.wait(100)
    short.work("C", run="sunday")
    run("housekeep", "--archive", "old")
    short.wait(100)
    short.work("D", run="sunday")
    run("housekeep", "--archive", "old")
    first, second, _ = sorted(Path("old").iterdir())
    first.rename("first")
    result = run("journal", "verify", "--archive", "old")
    assert result.exit_code == 0
    assert "from entry 22 on" in result.stdout
    assert "old has not all of them" in result.stdout
    refused = run("replay", "--archive", "old")
    assert refused.exit_code == 2
    assert "begins with entry 22" in said(refused)
    assert "a segment is missing in old" in said(refused)
    Path("first").rename(first)
    second.unlink()
    broken = run("journal", "verify", "--archive", "old")
    assert broken.exit_code == 1
    assert "broken: entry 22 is missing" in broken.stdout


@pytest.mark.parametrize("seq", [1, 20, 21, 22, 23])
def test_a_head_that_was_kept_is_found_in_the_archive(run: Run, short: Till, seq: int) -> None:
    """Wherever that entry is now; another hash there is a chain that was rebuilt."""
    found = run("journal", "verify", "--archive", "old", "--head", head(seq))
    assert found.exit_code == 0
    other = run("journal", "verify", "--archive", "old", "--head", f"{seq}:{'ab' * 32}")
    assert other.exit_code == 1
    assert f"entry {seq} is not the one you kept" in other.stdout
    swapped = f"{seq}:{head(seq % 23 + 1).partition(':')[2]}"
    assert run("journal", "verify", "--archive", "old", "--head", swapped).exit_code == 1


def test_a_head_that_is_only_in_the_archive_cannot_pass_without_it(run: Run, short: Till) -> None:
    """Neither yes nor no, but how to find out; the last one that left is known without it."""
    for kept in (head(1), head(20), f"7:{'ab' * 32}"):
        result = run("journal", "verify", "--head", kept)
        assert result.exit_code == 2
        assert "may have been moved to an archive" in said(result)
        assert "--archive DIR" in said(result)
    assert run("journal", "verify", "--head", head(21)).exit_code == 0
    assert run("journal", "verify", "--head", f"21:{'ab' * 32}").exit_code == 1
    assert run("journal", "verify", "--head", head(23)).exit_code == 0
    assert run("journal", "verify", "--head", f"23:{'ab' * 32}").exit_code == 1
    assert run("journal", "verify", "--head", f"99:{'ab' * 32}").exit_code == 1
    [file] = Path("old").iterdir()
    file.unlink()
    lost = run("journal", "verify", "--archive", "old", "--head", head(20))
    assert lost.exit_code == 2
    assert "does not have all that was archived" in said(lost)


def test_a_shortened_file_that_was_tampered_with(run: Run, short: Till) -> None:
    """Read raw, because the ledger refuses: entries that are only kept are no part of the journal."""
    with closing(sqlite3.connect(".sluicegate/ledger.db")) as db:
        assert db.execute("SELECT count(*) FROM journal WHERE seq < 0").fetchone()[0] > 10
    tamper("UPDATE journal SET body = replace(body, 'acme', 'emca') WHERE seq = 22")
    result = run("journal", "verify", "--archive", "old")
    assert result.exit_code == 1
    assert "broken: entry 22 was changed" in result.stdout
    tamper("DELETE FROM journal WHERE seq = 22", "UPDATE head SET seq = 40")
    assert "entry 1 is missing: after 0 comes 23" in run("journal", "verify").stdout
    assert "entry 22 is missing" in run("journal", "verify", "--archive", "old").stdout


def test_a_shortened_file_whose_end_was_cut_off(run: Run, short: Till) -> None:
    """Kept entries do not stand in for it, whichever way the file can still be opened."""
    tamper("DELETE FROM journal WHERE seq > 0")
    for options in ((), ("--archive", "old")):
        result = run("journal", "verify", *options)
        assert result.exit_code == 1
        assert "is missing" in result.stdout


# --- reading ---------------------------------------------------------------------------------------


def test_tail_shows_what_is_left(run: Run, short: Till) -> None:
    """From its first entry on, the note of the archive included."""
    result = run("journal", "tail", "-n", "100")
    assert result.exit_code == 0
    words = [line.split()[2] for line in result.stdout.splitlines()]
    assert words[:2] == ["permit", "succeeded"]
    assert words[-1] == "archived"
    assert result.stdout.rstrip().endswith("archived   21 entries, segment 1  -")
    assert len(run("journal", "tail", "-n", "1").stdout.splitlines()) == 1


def test_export_with_the_archive_is_the_whole_journal(run: Run, short: Till) -> None:
    """It begins with all that there was before, line for line."""
    result = run("journal", "export", "--archive", "old", "-o", "whole.jsonl", "--json")
    told = json.loads(result.stdout)
    before = Path("before.jsonl").read_text("utf-8")
    whole = Path("whole.jsonl").read_text("utf-8")
    assert whole.startswith(before)
    assert told["entries"] == len(whole.splitlines()) > len(before.splitlines())
    assert run("replay", "--file", "whole.jsonl").exit_code == 0
    run("journal", "export", "-o", "rest.jsonl")
    rest = run("replay", "--file", "rest.jsonl")
    assert rest.exit_code == 2
    assert "rest.jsonl begins with entry 22" in said(rest)
    assert "with --archive DIR" in said(rest)


def test_an_export_of_what_other_writers_left_is_a_part(run: Run, till: Till) -> None:
    """A fleet's journal can begin with the first entry of a new writer, and others have left."""
    body = (
        '{"at":1,"entries":5,"kind":"archived","segment":1,"sha256":"","upto":{"w1":[5,"'
        + "ab" * 32
        + '"]}}'
    )
    entry = Entry(1, "w2", GENESIS, link(GENESIS, "w2", 1, body), body)
    Path("rest.jsonl").write_text("\n".join(exported_lines([entry])), encoding="utf-8")
    result = run("replay", "--file", "rest.jsonl")
    assert result.exit_code == 2
    assert "rest.jsonl does not begin with its first entry" in said(result)
    assert "export the whole journal" in said(result)


@pytest.mark.parametrize(
    "command",
    [("replay",), ("backtest", "-p", "sluicegate.yaml"), ("explain", "--entry", "22")],
    ids=lambda command: command[0],
)
def test_what_needs_the_whole_journal_asks_for_the_archive(
    run: Run, short: Till, command: tuple[str, ...]
) -> None:
    """Exit code 2, and the option in the hint; with it the answer is that of the whole journal."""
    result = run(*command)
    assert result.exit_code == 2
    assert "the journal begins with entry 22" in said(result)
    assert "name its folder with --archive DIR" in said(result)
    assert "--archive DIR" in json.loads(run(*command, "--json").stdout)["hint"]
    assert run(*command, "--archive", "old").exit_code == 0


def test_an_archived_decision_can_be_explained(run: Run, short: Till) -> None:
    """From the state as it was then."""
    result = run("explain", "--entry", "4", "--archive", "old")
    assert result.exit_code == 0
    assert "journal entry 4" in result.stdout
    told = json.loads(run("explain", "--entry", "4", "--archive", "old", "--json").stdout)
    [budget] = [rule for rule in told["rules"] if rule["rule"] == "limits[0]"]
    assert budget["left"]["left"] == 19_999_000_000


def test_a_report_of_an_archived_run_asks_for_the_archive(run: Run, short: Till) -> None:
    """What it owes is not known without; a run that is all there is told as ever."""
    friday = run("run-report", "friday", "--json")
    assert friday.exit_code == 1
    assert json.loads(friday.stdout)["calls"][0]["succeeded"] == 1
    result = run("run-report", "monday")
    assert result.exit_code == 2
    assert "`sluicegate run-report --archive DIR`" in said(result)
    told = json.loads(run("run-report", "monday", "--archive", "old", "--json").stdout)
    assert told["calls"][0]["succeeded"] == 10
    assert len(told["owed"]) == 10
    unknown = run("run-report", "tuesday")
    assert unknown.exit_code == 2
    assert "name its folder with --archive DIR" in said(unknown)
    assert "journal tail" in said(run("run-report", "tuesday", "--archive", "old"))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("journal", "verify"), "there is no archive at none"),
        (("journal", "export"), "there is no archive at none"),
        (("replay",), "there is no archive at none"),
        (("backtest", "-p", "sluicegate.yaml"), "there is no archive at none"),
        (("run-report", "monday"), "there is no archive at none"),
        (("explain", "--entry", "3"), "there is no archive at none"),
        (("explain", "pay"), "--archive is read for --entry only"),
        (("replay", "--file", "before.jsonl"), "--file and --archive were both given"),
    ],
)
def test_an_archive_that_is_not_there(
    run: Run, short: Till, arguments: tuple[str, ...], problem: str
) -> None:
    """It is never taken for an empty one."""
    result = run(*arguments, "--archive", "none")
    assert result.exit_code == 2
    assert problem in said(result)
    assert not Path("none").exists()


def test_the_help_has_an_example_of_it(run: Run) -> None:
    """Of filling an archive, and of reading one."""
    shown = run("housekeep", "--help").stdout
    assert "sluicegate housekeep --archive /srv/archive --keep-journal 90d" in shown
    assert "[default: 90d]" in " ".join(shown.split())
    for command in (("journal", "verify"), ("journal", "export"), ("replay",), ("run-report",)):
        assert "--archive /srv/archive" in run(*command, "--help").stdout
