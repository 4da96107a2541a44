"""Change the plan of a run: show it to a person, read their edit, and apply it."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..context import Context
from ..errors import ConfigurationError, InvalidInputError, InvalidPlanError, PlanExecuteError
from ..graph.control import edit_plan
from ..graph.door.thread_state import plan_of
from ..people.editing import editable_plan
from ..plan.files.plan_files import dump_plan, load_plan_file
from ..plan.identity import plan_difference, step_fingerprints
from ..plan.revision import with_new_ids_for_reruns
from ..plan.rules import PlanFacts, validate_plan
from ..state import Plan
from ..tools.threads import run_to_end
from .dialogue import HOW_TO_WRITE, EditorError, edit_file, parse_plan
from .driving import Session
from .plan_files import refusal, with_places
from .views import open_questions, results_of

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

__all__ = ["PlanEdit", "edit_from_file", "edit_in_editor", "settle"]

_MARK = "#|"
"""Begins the lines that we write above a person's text; other comments are theirs."""


@dataclass(frozen=True)
class PlanEdit:
    """The change of one thread's plan.

    Attributes:
        session: The thread.
        before: Its state when the change began.
    """

    session: Session
    before: StateSnapshot

    @property
    def current(self) -> Plan:
        """The plan that is changed.

        Raises:
            InvalidInputError: If there is none, or one that nobody has checked yet.
        """
        return plan_of(self.before)

    @property
    def text(self) -> str:
        """The plan as YAML, as a person edits it."""
        return _as_text(self.current)

    def store(self, edited: dict[str, Any]) -> bool:
        """Show what an edit changes and put it in the place of the plan; False: it changes nothing.

        Raises:
            InvalidPlanError: If the edited plan cannot run; nothing is changed then.
            ThreadError: If the thread is busy.
        """
        understood = self._understood(edited)
        if understood is not None and editable_plan(understood) == editable_plan(self.current):
            return False
        accepted = run_to_end(
            edit_plan(self.session.agent, self.session.config, edited, person=self.session.person)
        )
        self._show_difference(understood or accepted)
        self._show_consequences(accepted)
        return True

    def _understood(self, edited: dict[str, Any]) -> Plan | None:
        """Normalise an edit, so that what it leaves out does not look changed; None: it is no plan."""
        limit = Context().step_limit(by_model=False)
        goal = str(self.before.values.get("goal") or "")
        facts = PlanFacts(self.session.agent.toolbox, limit, previous=self.current, goal=goal)
        return validate_plan(edited, facts)[0]

    def _show_difference(self, understood: Plan) -> None:
        names = f"plan, revision {self.current.get('revision', 1)}", "plan, edited"
        old, new = self.text.splitlines(), _as_text(understood).splitlines()
        screen = self.session.screen
        screen.difference(difflib.unified_diff(old, new, *names, lineterm=""))
        titles = {"added": "new", "changed": "changed", "removed": "gone"}
        difference = plan_difference(self.current, understood)
        for key, title in titles.items():
            if ids := difference[key]:
                screen.note(f"{title}: {', '.join(ids)}")

    def _show_consequences(self, accepted: Plan) -> None:
        """Say what gets a new id, and which questions are no longer asked."""
        results = results_of(self.session.snapshot())
        revision = self.current.get("revision", 1) + 1
        renamed = with_new_ids_for_reruns(
            {**accepted, "revision": revision}, step_fingerprints(self.current), results
        )
        pairs = zip(accepted["steps"], renamed["steps"], strict=True)
        again = [f"{old['id']} as {new['id']}" for old, new in pairs if old["id"] != new["id"]]
        screen = self.session.screen
        if again:
            screen.note(f"run again: {', '.join(again)}")
        if questions := open_questions(self.before):
            screen.note(f"withdrawn: {', '.join(question.label for question in questions)}")


def _as_text(plan: Mapping[str, Any]) -> str:
    return dump_plan(editable_plan(plan), format="yaml")


def settle(session: Session) -> None:
    """Let the graph take in an edit that was stored: its plan gets its revision and ids, and no step runs."""
    for _ in session.agent.stream(None, session.config, interrupt_after=["validator"]):
        pass


# --- from a file -------------------------------------------------------------------------


def edit_from_file(change: PlanEdit, path: Path) -> bool:
    """Take the edited plan from a file; False: it changes nothing.

    Raises:
        InvalidPlanError: With every issue and its line; nothing is changed then.
    """
    plan_file = load_plan_file(path)
    try:
        return change.store(plan_file.plan)
    except InvalidPlanError as error:
        raise refusal(
            plan_file.name, with_places(plan_file, error.issues), "; nothing was changed"
        ) from error


# --- in an editor ------------------------------------------------------------------------


@dataclass
class _Draft:
    """What the person has written so far, and what stands above it in the editor."""

    text: str
    header: list[str]
    issues: Sequence[Mapping[str, Any]] = ()


def edit_in_editor(change: PlanEdit) -> bool:
    """Let a person edit the plan, again while it cannot run; False: they changed nothing.

    Raises:
        InvalidPlanError: If they gave up an edit that cannot run.
        ConfigurationError: If the editor cannot be used.
        InvalidInputError: If the plan was changed by somebody else meanwhile.
        ThreadBusyError: If somebody runs the thread.
    """
    draft = _Draft(change.text, _first_header(change))
    with change.session.agent.checkpointer.thread_lock(change.session.thread):  # type: ignore[union-attr]
        pass  # better refused before the work of editing than after it
    try:
        while True:
            saved = _saved_text(draft)
            if not _says_anything(saved):
                return False
            if saved == draft.text:
                return _unchanged(draft)
            draft.text = saved
            if (stored := _tried(change, draft)) is not None:
                return stored
    except PlanExecuteError:
        _keep(change, draft)
        raise


def _first_header(change: PlanEdit) -> list[str]:
    results = results_of(change.before)
    finished = [step_id for step_id, result in results.items() if result["status"] == "done"]
    return [
        f"The plan of thread {change.session.thread}. Once saved, the changed plan counts as approved.",
        *([f"Finished steps stay as they are: {', '.join(finished)}"] if finished else []),
        "To change nothing, leave it as it is, or empty the file.",
        *HOW_TO_WRITE,
    ]


def _saved_text(draft: _Draft) -> str:
    """Open the editor and return the person's text, without what stood above it."""
    header = "".join(f"{_MARK} {line}\n" for line in draft.header)
    try:
        lines = edit_file(header + draft.text, "plan.yaml").splitlines(keepends=True)
    except EditorError as error:
        raise ConfigurationError(str(error)) from error
    while lines and lines[0].startswith(_MARK):
        del lines[0]
    return "".join(lines)


def _says_anything(text: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines())


def _unchanged(draft: _Draft) -> bool:
    if not draft.issues:
        return False
    listed = "\n".join(_issue_lines(draft.issues, 0))
    raise InvalidPlanError(f"the edited plan cannot run, nothing was changed:\n{listed}", draft.issues)


def _tried(change: PlanEdit, draft: _Draft) -> bool | None:
    """Store the draft; None: it cannot run, and its issues stand above it now."""
    try:
        plan_file = parse_plan(draft.text)
    except InvalidPlanError as error:
        _point_out(change, draft, error.issues)
        return None
    if change.session.snapshot().values.get("plan") != change.before.values.get("plan"):
        raise InvalidInputError("the plan of this thread was changed meanwhile, so this edit was not stored")
    try:
        return change.store(plan_file.plan)
    except InvalidPlanError as error:
        _point_out(change, draft, with_places(plan_file, error.issues))
        return None


def _point_out(change: PlanEdit, draft: _Draft, issues: Sequence[Mapping[str, Any]]) -> None:
    draft.issues = issues
    # Lines are counted as the editor will: with what stands above the text.
    listed = list(_issue_lines(issues, above=len(issues) + 2))
    draft.header = [
        "This plan cannot run yet:",
        *listed,
        "Fix it and save. To change nothing, empty the file.",
    ]
    for line in listed:
        change.session.screen.note(f"The edited plan cannot run: {line.strip()}")


def _issue_lines(issues: Sequence[Mapping[str, Any]], above: int) -> Iterator[str]:
    for issue in issues:
        place = f"line {issue['line'] + above}: " if issue.get("line") else ""
        yield f"  {place}{issue['code']}: {' '.join(str(issue['message']).split())}"


def _keep(change: PlanEdit, draft: _Draft) -> None:
    """Save an edit that was not stored, so that nothing that the person wrote is lost."""
    if draft.text == change.text:
        return
    handle, path = tempfile.mkstemp(prefix="plan-execute-edit-", suffix=".yaml")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(draft.text)
    change.session.screen.note(f"Your edit is kept in {path}; `edit --plan FILE` takes it.")
