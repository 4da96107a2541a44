"""Know who gave an answer, and whose answer counts.

Rules are requirements: a decision counts only if each rule that applies lets its maker decide. So a later run
can add rules but never loosen one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from typing_extensions import TypedDict

from ..context import Approvers, Context
from ..plan.grants import touched
from ..run import Run
from ..state import By, Effect, Step, as_by, granted_tools
from ..tools.toolbox import Toolbox
from .questions import QUESTIONS, question_name

__all__ = [
    "Deciders",
    "Use",
    "authenticated_user",
    "deciders_of",
    "person_of",
    "requesters_of",
    "use_of_call",
    "uses_in",
    "uses_of",
]


# --- who it is -----------------------------------------------------------------------------


def authenticated_user(configurable: Mapping[str, Any]) -> str:
    """Return the user whom a server has authenticated; "" if there is none.

    langgraph-api 0.16.7 removes these keys from what clients send, and writes them itself.
    """
    user = configurable.get("langgraph_auth_user")
    identity = user.get("identity") if isinstance(user, Mapping) else getattr(user, "identity", None)
    return str(configurable.get("langgraph_auth_user_id") or identity or "")


def person_of(configurable: Mapping[str, Any], asked: Context | None) -> By:
    """Return who gives the orders of a run: the server's user, else the person whom the caller names."""
    name = authenticated_user(configurable) or (asked.person if asked is not None else None)
    return {"kind": "person", "id": name} if name else {"kind": "person"}


# --- what a decision is about -----------------------------------------------------------


class Use(TypedDict):
    """A tool that a decision allows or is about; rules may refer to it."""

    tool: str
    effect: Effect
    resources: list[str]
    open: bool
    """Whether it may touch resources that are not known yet."""


def uses_of(steps: Iterable[Step], toolbox: Toolbox, values: Mapping[str, Any]) -> list[Use]:
    """List what steps may do, once for each tool."""
    found: dict[str, set[str | None]] = {}
    for step in steps:
        for name in granted_tools(step):
            found.setdefault(name, set()).update(touched(step, name, toolbox, values))
    return [_use(name, toolbox, resources) for name, resources in found.items()]


def use_of_call(tool: str, args: Mapping[str, Any] | None, toolbox: Toolbox) -> Use:
    """Say what a call does."""
    return _use(tool, toolbox, {toolbox.known_resource(tool, args)} if toolbox.template(tool) else ())


def _use(tool: str, toolbox: Toolbox, resources: Iterable[str | None]) -> Use:
    touched_ = set(resources)
    effect: Effect = toolbox.effect(tool) if tool in toolbox else "write"
    return {
        "tool": tool,
        "effect": effect,
        "resources": sorted(one for one in touched_ if one is not None),
        "open": None in touched_,
    }


def uses_in(value: Any, toolbox: Toolbox) -> list[Use]:
    """Return what an open question is about; for foreign questions, the calls that they name."""
    if question_name(value) in QUESTIONS:
        return list(value.get("uses") or ())
    requests = value.get("action_requests") if isinstance(value, Mapping) else None
    calls = [one for one in requests or () if isinstance(one, Mapping)]
    return [use_of_call(str(one.get("name")), one.get("args"), toolbox) for one in calls]


# --- whose decision counts -----------------------------------------------------------------


@dataclass(frozen=True)
class Deciders:
    """A run's rules about who decides what.

    Attributes:
        rules: The rules.
        requesters: Who gave the goal, in this branch of the conversation or another; empty if nobody knows.
    """

    rules: Sequence[Approvers]
    requesters: frozenset[str]

    def refusal(self, question: str, uses: Sequence[Use], by: By | str) -> str | None:
        """Return why a decision does not count, and who may decide; None if it counts.

        The safe default, for when nobody answers, is nobody's decision.
        """
        applying = self._applying(question, uses)
        by = as_by(by)
        if by["kind"] == "timeout" or all(self._lets(rule, by) for rule in applying):
            return None
        name = by.get("id") if by["kind"] == "person" else f"the {by['kind']}"
        who = (
            f"{name} may not decide this"
            if name
            else "nothing says who you are (Context.person, --person, or the server's user)"
        )
        return f"{who}. {self.in_words(question, uses)}"

    def in_words(self, question: str, uses: Sequence[Use]) -> str:
        """Say who may decide; an empty text if anybody may."""
        applying = self._applying(question, uses)
        requester = (
            f"the person who started the run ({', '.join(sorted(self.requesters)) or 'nobody knows who'})"
        )
        return " ".join(
            _rule_in_words(rule) + ("." if rule.requester else f", but not {requester}.") for rule in applying
        )

    def _applying(self, question: str, uses: Sequence[Use]) -> list[Approvers]:
        return [rule for rule in self.rules if _applies(rule, question, uses)]

    def _lets(self, rule: Approvers, by: By) -> bool:
        name = by.get("id")
        if by["kind"] != "person" or not name or not any(fnmatchcase(name, who) for who in rule.who):
            return False
        return rule.requester or (bool(self.requesters) and name not in self.requesters)


def requesters_of(state: Mapping[str, Any], known: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Return who gave the current goal: a fork may have gone back to somebody else's goal.

    Args:
        state: The thread's state.
        known: Who gave each goal, by how many had ended before it.
    """
    plan = state.get("plan")
    plan_id = plan.get("id") if isinstance(plan, Mapping) else None  # Nobody may have checked it yet.
    ended = [event["plan_id"] for event in state.get("audit") or () if event["event"] == "finished"]
    # The current goal may have ended too. A plan may reuse the id of another goal's plan: then both count.
    numbers = {len(ended), sum(one != plan_id for one in ended) if plan_id else len(ended)}
    named = {name for number in numbers for name in known.get(str(number), ())}
    return frozenset(named or {name for names in known.values() for name in names})


def deciders_of(run: Run) -> Deciders:
    """Return the rules of a run."""
    return Deciders(run.settings.approvers, run.requesters)


def _applies(rule: Approvers, question: str, uses: Sequence[Use]) -> bool:
    # A foreign question asks for a tool call, as a confirmation does.
    asked = question if question in QUESTIONS else "confirm_call"
    if rule.question is not None and rule.question != asked:
        return False
    if rule.effect is rule.tool is rule.resource is None:
        return rule.question is not None or asked != "ask_person"
    return any(_speaks_of(rule, use) for use in uses)


def _speaks_of(rule: Approvers, use: Use) -> bool:
    if rule.effect not in (None, use["effect"]):
        return False
    if rule.tool is not None and not fnmatchcase(use["tool"], rule.tool):
        return False
    # An unknown resource may turn out to be the one that the rule names.
    resource = rule.resource
    return resource is None or use["open"] or any(fnmatchcase(one, resource) for one in use["resources"])


def _rule_in_words(rule: Approvers) -> str:
    what = {"effect": rule.effect, "tool": rule.tool, "resource": rule.resource}
    named = ", ".join(f"the {key} {value}" for key, value in what.items() if value is not None)
    about = f"About {named}" if named else f"About {rule.question or 'this'}"
    return f"{about}, {_listed(rule.who)} may decide"


def _listed(who: Sequence[str]) -> str:
    return "anybody whose id is known" if "*" in who else " or ".join(sorted(who))
