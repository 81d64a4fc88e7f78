# /// script
# dependencies = ["nox>=2025.5.1"]
# ///
"""`nox` runs what has to be green; `nox -l` lists everything."""

from __future__ import annotations

import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
COVERED = "3.11"  # one Python measures; the others would only be slower
FRAMEWORKS = {"langchain": "langchain", "autogen": "autogen_agentchat", "crewai": "crewai"}
"""The extras, and a module by which each is known to be installed."""
MEASURED = {"redis": "*/ledger/redis*", "postgres": "*/ledger/postgres/*"}
"""The extras for ledgers of fleets, and the modules that only their tests reach."""

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_external_run = True
nox.options.reuse_existing_virtualenvs = True
# The default sessions use the Python that runs nox, so nothing is missing there;
# `nox -s core` takes each Python that this machine has.
nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    f"core-{HERE}",
    "langchain",
    "autogen(newest)",
    "crewai(newest)",
    "redis(newest)",
    "postgres(newest)",
    "together",
    "types",
    "lint",
    "docs",
    "build",
]


def group(name: str) -> list[str]:
    """The requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


def oldest(*extras: str) -> list[str]:
    """
    Each requirement at its lower bound: what pyproject.toml promises to work with.

    CrewAI itself asks for a later rich than we do, so with it rich is not pinned.
    """
    project = PYPROJECT["project"]
    wanted = [*project["dependencies"]]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    if "crewai" in extras:
        wanted = [requirement for requirement in wanted if not requirement.startswith("rich")]
    return [requirement.replace(">=", "==", 1) for requirement in wanted]


def tests_of(framework: str) -> list[str]:
    """The files that need *framework*: they are named for it, wherever they are."""
    return sorted(str(path) for path in Path("tests").rglob(f"test_{framework}*.py"))


def must_be_absent(session: nox.Session, *modules: str) -> None:
    """Fail if one of *modules* came along; pytest would then run the tests that need it."""
    look = (
        "import sys; from importlib.util import find_spec; "
        "sys.exit(', '.join(name for name in sys.argv[1:] if find_spec(name)) or None)"
    )
    session.run("python", "-c", look, *modules, silent=True)


@nox.session(python=PYTHONS)
def core(session: nox.Session) -> None:
    """The core's tests, with no framework installed."""
    session.install("-e.", *group("test"))
    must_be_absent(session, *FRAMEWORKS.values())
    if session.python != COVERED or session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("coverage", "run", "-m", "pytest")
    elsewhere = ",".join(MEASURED.values())  # on servers that this session does not start
    session.run("coverage", "report", "--fail-under=95", f"--omit={elsewhere}")
    decisive = "*/sluicegate/claims/*.py,*/sluicegate/evaluate.py"
    session.run("coverage", "report", "--fail-under=100", f"--include={decisive}")


@nox.session(default=False)
def core_oldest(session: nox.Session) -> None:
    """The core's tests with every dependency at its lower bound."""
    session.install("-e.", *group("test"), *oldest())
    must_be_absent(session, *FRAMEWORKS.values())
    session.run("pytest", *session.posargs)


def framework_tests(session: nox.Session, framework: str, versions: str) -> None:
    """The tests of one adapter and its examples; with none to run, they fail."""
    files = tests_of(framework)
    if not files:
        session.error(f"there is no tests/**/test_{framework}*.py")
    pins = oldest(framework) if versions == "oldest" else []
    session.install(f"-e.[{framework}]", *group("test"), *servers(framework), *pins)
    if framework not in MEASURED or pins or session.posargs or HERE != COVERED:
        session.run("pytest", *files, *session.posargs)
        return
    session.run("coverage", "run", "-m", "pytest", *files)
    session.run("coverage", "report", "--fail-under=90", f"--include={MEASURED[framework]}")


def servers(*extras: str) -> list[str]:
    """What the tests of *extras* need besides: real servers, a checkpointer on disk."""
    found = group("mcp") if {"autogen", "crewai"}.intersection(extras) else []
    for extra in ("langchain", "redis", "postgres"):
        found += group(f"{extra}-server") if extra in extras else []
    return found


VERSIONS = nox.parametrize("versions", [nox.param(name, id=name) for name in ("newest", "oldest")])


@nox.session
@VERSIONS
def langchain(session: nox.Session, versions: str) -> None:
    """The LangChain adapter on the newest and on the oldest versions that it supports."""
    framework_tests(session, "langchain", versions)


@nox.session
@VERSIONS
def autogen(session: nox.Session, versions: str) -> None:
    """The AutoGen adapter on the newest and on the oldest versions that it supports."""
    framework_tests(session, "autogen", versions)


@nox.session
@VERSIONS
def crewai(session: nox.Session, versions: str) -> None:
    """The CrewAI adapter on the newest and on the oldest versions that it supports."""
    framework_tests(session, "crewai", versions)


@nox.session
@VERSIONS
def redis(session: nox.Session, versions: str) -> None:
    """The Redis ledger on a real server, with the newest and the oldest client."""
    framework_tests(session, "redis", versions)


@nox.session
@VERSIONS
def postgres(session: nox.Session, versions: str) -> None:
    """The PostgreSQL ledger on a real server, with the newest and the oldest client."""
    framework_tests(session, "postgres", versions)


@nox.session
def together(session: nox.Session) -> None:
    """All of it in one environment: the contract over each framework, the examples, a fleet."""
    session.install("-e.[all]", *group("test"), *servers(*FRAMEWORKS, *MEASURED))
    files = [
        f for name in FRAMEWORKS for f in tests_of(name) if "contract" in f or "adapters" not in f
    ]
    session.run("pytest", *files, *session.posargs)


@nox.session(default=False)
def matrix(session: nox.Session) -> None:
    """Everything: each Python, each framework, newest and oldest."""
    for python in PYTHONS:
        session.notify(f"core-{python}")
    for framework in (*FRAMEWORKS, *MEASURED):
        for versions in ("newest", "oldest"):
            session.notify(f"{framework}({versions})")
    for name in ("core_oldest", "together", "types", "lint", "docs", "build"):
        session.notify(name)


@nox.session
def types(session: nox.Session) -> None:
    """mypy and pyright, both strict."""
    session.install("-e.[all]", *group("types"))
    session.run("mypy")
    session.run("pyright")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, bans and the direction of imports."""
    session.install("-e.", *group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """Each Python example in README.md and docs/ runs and prints what it says."""
    session.install("-e.[all]", *group("test"))
    # What the frameworks say of themselves on import is nothing that an example could mend.
    quiet = ("-Wignore::DeprecationWarning", "-Wignore::ImportWarning")
    session.run("pytest", *quiet, "--at-least=60", "README.md", "docs", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """A source archive, a wheel made from it, and the command that it installs."""
    dist = Path(session.create_tmp()) / "dist"
    for old in dist.glob("*"):
        old.unlink()
    session.install(*group("release"))
    session.run("python", "-m", "build", "--outdir", str(dist))
    built = sorted(map(str, dist.iterdir()))
    session.run("twine", "check", "--strict", *built)
    session.install("--force-reinstall", next(name for name in built if name.endswith(".whl")))
    session.run("sluicegate", "--help", silent=True)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Medians and ratios against floors that are measured in the same run."""
    session.install("-e.[redis,postgres]", *group("test"), *servers(*MEASURED))
    session.run("python", "bench/run.py", *session.posargs)


if __name__ == "__main__":
    nox.main()
