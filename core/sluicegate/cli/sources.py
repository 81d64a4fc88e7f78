"""Where commands find the policy and the ledger. Looking never makes a ledger."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, cast
from urllib.parse import quote, unquote

import typer

from ..archive import Whole
from ..ledger import Ledger, beside, open_ledger
from .terminal import WrongUse

__all__ = [
    "DEFAULT",
    "ArchiveFolder",
    "LedgerUrl",
    "PolicyFile",
    "existing_ledger",
    "location",
    "policy_file",
    "with_archive",
    "without_secrets",
]

DEFAULT: Final = Path("sluicegate.yaml")

_PASSWORD: Final = re.compile(r"(://[^:/]*:).*@", re.DOTALL)
_SECRET: Final = re.compile(r"^([^=]*(?:pass|secret|key)[^=]*)=.*$", re.IGNORECASE)

PolicyFile = Annotated[
    Path, typer.Option("--policy", "-p", metavar="FILE", help="The policy file.", show_default=True)
]
LedgerUrl = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        help="The ledger: sqlite:///ledger.db, redis://…, postgresql://…  [default: beside the policy]",
        show_default=False,
    ),
]
ArchiveFolder = Annotated[
    Path | None,
    typer.Option(
        "--archive", metavar="DIR", help="Read the journal's entries in this archive, too."
    ),
]


def policy_file(path: Path) -> Path:
    """*path*, if there is a file; raises WrongUse."""
    if path.is_file():
        return path
    what = "a folder, not a policy file" if path.is_dir() else "no policy file"
    raise WrongUse(
        f"{path} is {what}" if path.is_dir() else f"there is {what} at {path}",
        "`sluicegate init` writes a first one; name another with its path",
    )


def existing_ledger(
    url: str | None, policy: Path, archive: Path | None = None
) -> tuple[str, Ledger]:
    """
    The ledger at *url*, by default beside *policy*, and its URL as it may be printed.

    With an *archive* its journal begins with what is in there. Raises WrongUse without a ledger
    or such a folder.
    """
    url, file = location(url, policy)
    if url == "memory:":
        raise WrongUse(
            "memory: is the ledger of one process, and only that process can look into it",
            "use gate.journal and gate.usage() there, or give the gate a SQLite ledger",
        )
    if file is not None and not file.exists():
        raise WrongUse(
            f"there is no ledger at {file}",
            "a gate makes its ledger when it is made; --ledger names another one",
        )
    if archive is not None and not archive.is_dir():
        raise WrongUse(
            f"there is no archive at {archive}",
            "--archive is the folder that `sluicegate housekeep --archive` or a gate has filled",
        )
    return without_secrets(url), with_archive(open_ledger(url), archive)


def with_archive(ledger: Ledger, archive: Path | None) -> Ledger:
    """*ledger*, with a journal that begins with what is in *archive*, if there is one."""
    return ledger if archive is None else cast("Ledger", Whole(ledger, archive))


def without_secrets(url: str) -> str:
    """*url* as it may be printed: a password may be in its address or among its options."""
    place, mark, query = url.partition("?")
    if "@" in query and "@" not in place:  # a password that should have been quoted
        return f"{url.partition(':')[0]}://***"
    options = [_SECRET.sub(r"\1=***", option) for option in query.split("&")]
    return _PASSWORD.sub(r"\1***@", place) + mark + "&".join(options)


def location(url: str | None, policy: Path) -> tuple[str, Path | None]:
    """The URL of the ledger, and its file if it is one."""
    if url is None:
        file = beside(policy_file(policy))
        return f"sqlite:///{quote(str(file))}", file
    scheme, _, rest = url.partition(":///")
    return url, Path(unquote(rest.partition("?")[0])) if scheme == "sqlite" else None
