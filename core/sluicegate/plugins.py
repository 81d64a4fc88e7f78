"""
The plugins of one gate: named, in one order, and fixed once made.

pluggy checks each hook against its specification. The calls are made here, so
that an objection keeps its plugin's name, the order is that of the names, and a
plugin that fails is a refusal. With no plugins a decision never comes here.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, Final, NamedTuple, TypeAlias, cast, get_args

import pluggy

from . import hookspec as specs
from .canonical import FrozenDict, NotCanonical, freeze, is_object
from .claims import Approval, Claim, Hold, Quota, Traced
from .decision import Permit, Reason
from .entries import claims_of, told_claims
from .errors import PluginError
from .hookspec import Objection
from .outcome import Failed, Outcome, Succeeded, Unknown
from .proposal import Proposal

__all__ = ["Objections", "PluginSource", "Plugins"]

_log: Final = logging.getLogger("sluicegate")
_CLAIMS: Final = get_args(Claim)
_LONGEST: Final = 10_000
_TRIAL: Final = Hold("a trial", 0, 1, "")
_HOOKS: Final = tuple(name for name in vars(specs) if name.startswith("sluicegate_"))

PluginSource: TypeAlias = "Mapping[str, object] | Iterable[object]"
"""Plugins by name, or a list of entry point names, modules and objects."""


class Objections(NamedTuple):
    """What plugins hold against a proposal."""

    reasons: tuple[Reason, ...]
    final: bool


class Plugins:
    """A fixed set of plugins; raises PluginError for one that is not fit to be asked."""

    def __init__(self, source: PluginSource) -> None:
        manager = pluggy.PluginManager("sluicegate")
        manager.add_hookspecs(specs)
        self.names = tuple(name for name, _ in _named(source))
        for name, plugin in _named(source):
            _register(manager, name, plugin)
        try:
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"{error}; the hooks are {', '.join(_HOOKS)}") from error
        self._calls = {hook: tuple(_calls(manager, hook)) for hook in _HOOKS}

    def facts(self, proposal: Proposal) -> tuple[Mapping[str, Any], str]:
        """The facts by plugin name and their canonical text; raises PluginError."""
        found: dict[str, object] = {}
        for name, call in self._calls["sluicegate_facts"]:
            facts = _asked(name, "sluicegate_facts", call, proposal=proposal)
            if facts is None:
                continue
            if not isinstance(facts, Mapping):
                raise PluginError(
                    f"{name}: sluicegate_facts gave a {type(facts).__qualname__}, not a mapping"
                )
            try:
                found[name] = dict(cast("Mapping[str, object]", facts))
            except Exception as error:  # a mapping of the plugin's own making
                raise PluginError(f"{name}: sluicegate_facts failed: {_said(error)}") from error
        try:
            frozen, text = freeze(found)
        except NotCanonical as error:
            raise PluginError(f"sluicegate_facts gave facts that are not JSON: {error}") from error
        return cast("FrozenDict", frozen), text

    def objections(self, proposal: Proposal, facts: Mapping[str, Any]) -> Objections:
        """Every plugin's no, in the order of their names."""
        reasons: list[Reason] = []
        final = False
        for name, call in self._calls["sluicegate_object"]:
            try:
                answer = _asked(name, "sluicegate_object", call, proposal=proposal, facts=facts)
            except PluginError as error:
                reasons.append(Reason("plugin_error", f"plugin {name}", str(error)))
                continue
            if answer is None:
                continue
            if isinstance(answer, str):
                answer = Objection(message=answer)
            if not isinstance(answer, Objection):
                problem = f"{name}: sluicegate_object gave a {type(answer).__qualname__}, not a sentence or None"
                reasons.append(Reason("plugin_error", f"plugin {name}", problem))
                continue
            reasons.append(_objected(name, answer))
            final = final or answer.final
        return Objections(tuple(reasons), final)

    def claims(self, proposal: Proposal, facts: Mapping[str, Any]) -> tuple[Claim, ...]:
        """The further claims of all plugins; raises PluginError."""
        claims: list[Claim] = []
        for name, call in self._calls["sluicegate_claims"]:
            answer = _asked(name, "sluicegate_claims", call, proposal=proposal, facts=facts)
            try:
                more = [] if answer is None else list(cast("Iterable[object]", answer))
            except Exception as error:  # a generator fails only when it is read
                raise PluginError(f"{name}: sluicegate_claims failed: {_said(error)}") from error
            for claim in more:
                if type(claim) not in _CLAIMS or type(claim) is Approval:
                    raise PluginError(
                        f"{name}: sluicegate_claims gave a {type(claim).__qualname__}, not a claim"
                    )
                claims.append(_fit(name, cast("Claim", claim)))
        return tuple(claims)

    def reconcile(self, permit: Permit) -> tuple[Outcome | None, str | None]:
        """What the first plugin that knows says became of a call, and its name; what fails is logged."""
        for name, call in self._calls["sluicegate_reconcile"]:
            try:
                answer = _asked(name, "sluicegate_reconcile", call, permit=permit)
            except PluginError:
                _log.exception("a plugin could not say what became of permit %s", permit.id)
                continue
            if isinstance(answer, (Succeeded, Failed)):
                return answer, f"plugin {name}"
            if answer is not None and not isinstance(answer, Unknown):
                _log.error("%s: sluicegate_reconcile gave %r, which is no outcome", name, answer)
        return None, None

    def record(self, entry: Mapping[str, Any]) -> None:
        """Tell every plugin of a journal entry; what fails is logged."""
        for name, call in self._calls["sluicegate_record"]:
            try:
                _asked(name, "sluicegate_record", call, entry=entry)
            except PluginError:
                _log.exception("a plugin could not record an entry; the decision stands")


def _fit(name: str, claim: Claim) -> Claim:
    """*claim*, if it can only narrow: it counts apart from the policy, and never backwards."""
    keys: tuple[object, ...] = claim.keys if isinstance(claim, Traced) else (claim.key,)
    for key in keys:
        if not isinstance(key, str) or not key.startswith(f"plugin|{name}|"):
            problem = f"a claim with the key {key!r:.80}; it must begin with 'plugin|{name}|'"
            raise PluginError(f"{name}: sluicegate_claims gave {problem}")
    try:
        if claims_of(json.loads(f"{{{told_claims((claim,))[:-1]}}}")["claims"]) != (claim,):
            raise ValueError("it is not the same once it was written down")
        if type(claim) is Quota and not (type(claim.amount) is int and claim.amount >= 0):
            raise ValueError(f"its amount is {claim.amount!r}; it must be millionths, 0 or more")
        if isinstance(claim, Traced):
            claim.trace([None] * len(keys))
        else:
            claim.take(None, _TRIAL)
    except Exception as error:
        problem = f"a {type(claim).__name__} that cannot be claimed: {_said(error)}"
        raise PluginError(f"{name}: sluicegate_claims gave {problem}") from error
    return claim


def _objected(name: str, objection: Objection) -> Reason:
    message = f"{name}: {str(objection.message or 'it gave no reason')[:_LONGEST]}"
    try:
        freeze(objection.retry)
        return Reason("objection", f"plugin {name}", message, objection.retry)
    except (TypeError, ValueError):  # it says no, whatever it says of asking again
        return Reason("objection", f"plugin {name}", f"{message} (its retry is unusable)")


_Call: TypeAlias = "Callable[..., object]"


def _asked(name: str, hook: str, call: _Call, **given: object) -> object:
    try:
        answer = call(**given)
    except Exception as error:
        raise PluginError(f"{name}: {hook} failed: {_said(error)}") from error
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise PluginError(f"{name}: {hook} gave a coroutine; hooks are plain functions")
    return answer


def _said(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except Exception:  # noqa: BLE001 - an error that cannot be printed is an error all the same
        return type(error).__name__


def _named(source: PluginSource) -> list[tuple[str, object]]:
    if isinstance(source, str):
        raise PluginError(f"plugins is the text {source!r}; write a list: plugins=[{source!r}]")
    pairs: list[tuple[str, object]]
    if is_object(source):
        pairs = [(str(name), plugin) for name, plugin in source.items()]
    else:
        pairs = [(_name_of(plugin), plugin) for plugin in source]
    loaded = [
        (name, _load(plugin) if isinstance(plugin, str) else plugin) for name, plugin in pairs
    ]
    names = [name for name, _ in loaded]
    if len(set(names)) != len(names):
        raise PluginError(
            f"two plugins are called {max(names, key=names.count)!r}; give each a name of its own"
        )
    return sorted(loaded, key=lambda pair: pair[0])


def _name_of(plugin: object) -> str:
    if isinstance(plugin, str):
        return plugin
    name = getattr(plugin, "__name__", None) or type(plugin).__name__
    return str(name).rpartition(".")[2]


def _load(name: str) -> object:
    from importlib.metadata import entry_points  # only for a gate that names an installed plugin

    found = entry_points(group="sluicegate", name=name)
    if not found:
        known = sorted(point.name for point in entry_points(group="sluicegate"))
        raise PluginError(
            f"no installed package has the entry point {name!r} in the group 'sluicegate'; "
            f"installed are: {', '.join(known) or 'none'}"
        )
    try:
        return next(iter(found)).load()
    except Exception as error:
        raise PluginError(f"{name}: it cannot be loaded: {_said(error)}") from error


def _register(manager: pluggy.PluginManager, name: str, plugin: object) -> None:
    try:
        manager.register(plugin, name)
    except (pluggy.PluginValidationError, ValueError) as error:
        raise PluginError(f"{name}: {error}") from error
    marked = {caller.name for caller in manager.get_hookcallers(plugin) or ()}
    if not marked:
        raise PluginError(f"{name}: it has no hook marked with @sluicegate.hookimpl")
    for attribute in dir(plugin):
        if not attribute.startswith("sluicegate_") or attribute in marked:
            continue
        if isinstance(getattr(plugin, attribute), ModuleType):
            continue
        raise PluginError(
            f"{name}: {attribute} lacks @sluicegate.hookimpl or is no hook; the hooks are {', '.join(_HOOKS)}"
        )


def _calls(manager: pluggy.PluginManager, hook: str) -> Iterable[tuple[str, _Call]]:
    implementations = cast("pluggy.HookCaller", getattr(manager.hook, hook)).get_hookimpls()
    for one in sorted(implementations, key=lambda implementation: implementation.plugin_name):
        if one.wrapper or one.hookwrapper or one.tryfirst or one.trylast:
            raise PluginError(
                f"{one.plugin_name}: {hook} may neither wrap nor reorder; remove the options"
            )
        if inspect.iscoroutinefunction(one.function) or inspect.isasyncgenfunction(one.function):
            raise PluginError(
                f"{one.plugin_name}: {hook} may not be async; hooks are plain functions"
            )
        yield one.plugin_name, _bound(one.function, frozenset(one.argnames))


def _bound(function: _Call, names: frozenset[str]) -> _Call:
    """pluggy lets an implementation take any subset of the arguments; so does this."""

    def call(**given: object) -> object:
        return function(**{name: value for name, value in given.items() if name in names})

    return call
