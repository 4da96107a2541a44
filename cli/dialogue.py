"""Ask a person, at the terminal or in their editor, what a run waits for."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import unified_diff
from functools import partial
from pathlib import Path
from typing import Any

from ..context import Environment
from ..errors import InvalidAnswerError, InvalidPlanError
from ..people.editing import editable_plan, editable_step
from ..people.forms import amount_in, json_or_text
from ..people.questions import OpenQuestion
from ..people.wording import DECISIONS
from ..plan.files.kept_text import with_changes
from ..plan.files.plan_files import PlanFile, dump_plan, read_plan_text
from .preview import what_it_does
from .terminal import Screen
from .views import title_of

__all__ = [
    "HOW_TO_WRITE",
    "Before",
    "EditorError",
    "ask_person",
    "edit_file",
    "parse_plan",
]

_FALLBACKS = ("nano", "vi")


class EditorError(Exception):
    """The editor could not be used; the message says why."""


def edit_file(text: str, name: str) -> str:
    """Return what a person saved after editing ``text`` in ``$VISUAL``, ``$EDITOR``, nano or vi.

    Raises:
        EditorError: If there is no editor, it fails, or what it saved cannot be read.
    """
    command = _editor()
    with tempfile.TemporaryDirectory(prefix="plan-execute-") as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        try:
            with _deaf_to_interrupts():
                ended = subprocess.run([*command, str(path)], check=False)  # noqa: S603 - the person's own
        except OSError as error:
            raise EditorError(f"the editor {command[0]!r} cannot be started ({error.strerror})") from error
        if ended.returncode != 0:
            raise EditorError(
                f"the editor {command[0]!r} failed (exit code {ended.returncode}); nothing was changed"
            )
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EditorError(f"what the editor saved cannot be read: {error}") from error


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Leave Ctrl-C to the editor, which a terminal sends it to as well."""
    # A handler, not SIG_IGN: the editor would inherit that.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _editor() -> list[str]:
    chosen = Environment.read().editor
    if chosen:
        try:
            return shlex.split(chosen)
        except ValueError as error:
            raise EditorError(f"EDITOR={chosen!r} cannot be read as a command: {error}") from error
    for name in _FALLBACKS:
        if found := shutil.which(name):
            return [found]
    raise EditorError("no editor is set: set EDITOR to one")


def parse_plan(text: str) -> PlanFile:
    """Read what a person wrote as a plan file is read.

    Raises:
        InvalidPlanError: If it is no YAML mapping; each issue has its line where that is known.
    """
    return read_plan_text(text, "the edited plan")


# --- what is edited ---------------------------------------------------------------------

HOW_TO_WRITE = (
    "A step has exactly one of: call {tool, args}, tools [names], agent, ask {question}, plan {goal}.",
    "${step.field} stands for an earlier output. depends_on: what else must be done before.",
    "It may also have: task, when, for_each, success_criteria, max_attempts, timeout_s, on_failure,",
    "approve (ask before it runs), confirm (ask once its arguments are known).",
)
"""What an editor's file says about itself."""
_ABOUT_A_PLAN = (
    "Save a changed plan to run it: that counts as approving it. To change nothing, leave it as it is.",
    *HOW_TO_WRITE,
)
_ABOUT_A_STEP = ("Change the task or the arguments, and save: the step runs then.",)


# --- questions ------------------------------------------------------------------------

Answer = Any
Ask = Callable[[Screen, OpenQuestion], Answer | None]

LATER = "leave the question open and stop here"


@dataclass
class Before:
    """What was said about plans before a question.

    Attributes:
        approved: The plan that was approved last; None: not as long as this process knows.
        text: What the person's editor held last, with their comments and their order.
    """

    approved: Mapping[str, Any] | None = None
    text: str = ""

    def text_of(self, plan: Mapping[str, Any]) -> str:
        """Return the text to edit: the person's own, updated with later changes of the plan."""
        shown = editable_plan(plan)
        theirs = with_changes(self.text, shown) if self.text else None
        return theirs or dump_plan(shown, format="yaml", header=_ABOUT_A_PLAN)

    def steps_that_differ(self, plan: Mapping[str, Any]) -> list[str]:
        """Name the steps that are not as they were approved, one to a line: `-` before, `+` now."""
        if self.approved is None:
            return []
        old, new = ([_step_line(step) for step in p["steps"]] for p in (self.approved, plan))
        return [
            line for line in unified_diff(old, new, n=0, lineterm="") if line[:3] not in ("---", "+++", "@@ ")
        ]

    def difference(self, plan: Mapping[str, Any]) -> list[str]:
        """Compare a plan with the one that was approved, line by line."""
        if self.approved is None or self.approved == plan:
            return []
        old, new = (dump_plan(dict(p), format="yaml").splitlines() for p in (self.approved, plan))
        return list(unified_diff(old, new, "approved", "proposed", lineterm=""))


def _step_line(step: Mapping[str, Any]) -> str:
    return f"{step['id']}: {what_it_does(step)}"


def ask_person(
    screen: Screen,
    questions: Sequence[OpenQuestion],
    before: Before | None = None,
    impossible: Collection[str] = (),
) -> dict[str, Answer]:
    """Ask every open question.

    Args:
        screen: Where the person is.
        questions: What is asked.
        before: What was said about plans before.
        impossible: Decisions that could not be carried out here, which are not offered.

    Returns:
        Answers by question id, in the shapes that a resume takes; a question left open has none.
    """
    answers: dict[str, Answer] = {}
    asking: dict[str, Ask] = {
        **_ASK,
        "approve_plan": partial(_approve_plan, before=before or Before()),
        **dict.fromkeys(DECISIONS, partial(_decide, impossible=impossible)),
    }
    for number, question in enumerate(questions, start=1):
        of_many = f" ({number} of {len(questions)})" if len(questions) > 1 else ""
        title = title_of(question) + of_many
        screen.question(title, folded(question.description))
        answer = asking.get(question.name, _ask_anything)(screen, question)
        if answer is not None:
            answers[question.id] = answer
    return answers


def folded(markdown: str) -> str:
    """Shorten each long value on its own, so that none hides the next one."""
    return _CODE.sub(_folded_code, markdown)


_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_SHOWN_OF_A_VALUE = 600


def _folded_code(found: re.Match[str]) -> str:
    fence, code = found[1], found[2]
    left_out = len(code) - _SHOWN_OF_A_VALUE
    return found[0] if left_out <= 0 else f"{fence}{code[:_SHOWN_OF_A_VALUE]}… ({left_out:,} more){fence}"


def _choose(screen: Screen, question: OpenQuestion, choices: Mapping[str, str]) -> str | None:
    """Let the person choose what to do; where something is folded, they can see all of it before."""
    is_folded = folded(question.description) != question.description
    whole = {"whole": "show all of what is folded above"} if is_folded else {}
    while (choice := screen.choose("What now?", {**choices, **whole})) == "whole":
        screen.question(title_of(question), question.description)
    return choice


# --- plans and steps ---------------------------------------------------------------------


def _approve_plan(screen: Screen, question: OpenQuestion, before: Before) -> Answer | None:
    plan = question.args["plan"]
    difference = before.difference(plan)
    choices = {
        "approve": "run this plan",
        "edit": "change the plan in your editor; a valid edit counts as approval",
        "reject": "say what should be different",
        **({"diff": "show every line that differs from the plan you approved"} if difference else {}),
        "later": LATER,
    }
    text = before.text_of(plan)
    screen.difference(before.steps_that_differ(plan)[:_MOST_STEPS])
    while True:
        match _choose(screen, question, choices):
            case "approve":
                return "approve"
            case "reject":
                return _rejection(screen, "What should be different? (empty: just reject)")
            case "diff":
                screen.difference(difference)
            case "edit":
                text, edited = _edited(screen, text)
                before.text = text
                if edited is not None and edited != editable_plan(plan):
                    return {"type": "edit", "args": {"plan": edited}}
                if edited is not None:
                    screen.note("Nothing was changed.")
            case _:
                return None


_MOST_STEPS = 40
"""Steps that differ which are shown without being asked for; `diff` shows every line."""


def _approve_step(screen: Screen, question: OpenQuestion) -> Answer | None:
    choices = {
        "approve": "run this step",
        "edit": "change its task or arguments in your editor, and run it",
        "reject": "do not run it; the step fails",
        "later": LATER,
    }
    text = dump_plan(editable_step(question.args["step"]), format="yaml", header=_ABOUT_A_STEP)
    while True:
        match _choose(screen, question, choices):
            case "approve":
                return "approve"
            case "reject":
                return _rejection(screen, "Why? (may be empty)")
            case "edit":
                text, step = _edited(screen, text)
                if step is not None:
                    return {"type": "edit", "args": {"step": step}}
            case _:
                return None


def _confirm_call(screen: Screen, question: OpenQuestion) -> Answer | None:
    choices = {"approve": "make this call", "reject": "do not make it; the step fails", "later": LATER}
    match _choose(screen, question, choices):
        case "approve":
            return "approve"
        case "reject":
            return _rejection(screen, "Why? (may be empty)")
        case _:
            return None


def _ask_person(screen: Screen, question: OpenQuestion) -> Answer | None:
    choices = {str(number): choice for number, choice in enumerate(question.args.get("choices") or (), 1)}
    for number, choice in choices.items():
        screen.note(f"  {number}: {choice}")
    said = screen.ask_line("Your answer (empty: leave the question open):")
    return {"type": "respond", "message": choices.get(said.strip(), said)} if said else None


def _rejection(screen: Screen, prompt: str) -> Answer | None:
    said = screen.ask_line(prompt)
    return None if said is None else {"type": "reject", "message": said}


def _edited(screen: Screen, text: str) -> tuple[str, dict[str, Any] | None]:
    """Return the text after editing, and the mapping it holds; None while it holds none."""
    try:
        text = edit_file(text, "plan.yaml")
        return text, parse_plan(text).plan
    except EditorError as error:
        screen.note(f"{error}. The question is still open.")
    except InvalidPlanError as error:
        screen.note(f"This cannot be read: {error}. Edit again, your text is kept.")
    return text, None


# --- decisions ---------------------------------------------------------------------------
_WITH_HINT = {"retry", "patch", "replan"}
_WITH_OUTPUT = {"supply", "happened"}


def _decide(screen: Screen, question: OpenQuestion, impossible: Collection[str]) -> Answer | None:
    choices = {word: what for word, what in DECISIONS[question.name].items() if word not in impossible}
    decision = _choose(screen, question, {**choices, "later": LATER})
    if decision in (None, "later"):
        return None
    args: dict[str, Any] = {"decision": decision}
    prompt, name, read = _MORE.get(str(decision), ("", "", str))
    while prompt:
        said = screen.ask_line(prompt.format(**{"by": "its limit again", **question.args}))
        if said is None:
            return None
        if not said and name != "output":
            break
        try:
            args[name] = read(said)
            break
        except InvalidAnswerError as error:
            screen.note(str(error))
    return {"type": "edit", "args": args}


_MORE: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    **dict.fromkeys(_WITH_HINT, ("A hint for it? (may be empty)", "instructions", str)),
    **dict.fromkeys(_WITH_OUTPUT, ("Its output (JSON, or else text):", "output", json_or_text)),
    "extend": ("By how much? (empty: by {by})", "by", amount_in),
}
"""What else a decision takes: a prompt, the argument's name, how it is read."""


def _ask_anything(screen: Screen, question: OpenQuestion) -> Answer | None:
    """Ask a question of a tool or a middleware, whose answers we do not know."""
    screen.data(json.dumps(question.value, ensure_ascii=False, indent=2, default=str))
    said = screen.ask_line("Your answer (JSON, or else text; empty: leave the question open):")
    return json_or_text(said) if said else None


_ASK: dict[str, Ask] = {
    "approve_step": _approve_step,
    "confirm_call": _confirm_call,
    "ask_person": _ask_person,
}
