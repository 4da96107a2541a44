"""Questions before a real pseudo-terminal, in this process: keys in, answers out."""

from __future__ import annotations

import os
import pty
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from plans import bound, plan

from plan_execute.cli.dialogue import Before, ask_person, folded
from plan_execute.cli.terminal import Screen, keys_of
from plan_execute.people.questions import OpenQuestion


class Person:
    """Somebody who types an answer each time a text is shown, and sees everything that is."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.shown = ""
        self.script: list[tuple[str, str]] = []
        # pytest sets the streams anew between a fixture and its test.
        self.sit_down: Callable[[], Any] = lambda: None
        self.thread = threading.Thread(target=self._sit, daemon=True)
        self.thread.start()

    def _sit(self) -> None:
        seen = 0
        while True:
            try:
                self.shown += os.read(self.master, 4096).decode(errors="replace")
            except OSError:
                return
            while self.script and (at := self.shown.find(self.script[0][0], seen)) >= 0:
                text, keys = self.script.pop(0)
                seen = at + len(text)
                os.write(self.master, keys.encode())


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    master, slave = pty.openpty()
    sitting = Person(master)
    with open(slave) as stdin, open(slave, "w", closefd=False) as stdout:
        sitting.sit_down = lambda: [
            monkeypatch.setattr("sys.stdin", stdin),
            monkeypatch.setattr("sys.stdout", stdout),
            monkeypatch.setattr("sys.stderr", stdout),
        ]
        yield sitting
        monkeypatch.undo()
    sitting.thread.join(5)
    os.close(master)


def question(name: str, **args: Any) -> OpenQuestion:
    return OpenQuestion("i", name, args, "What it is about.", {})


def asked(person: Person, about: OpenQuestion, *script: tuple[str, str], before: Before | None = None) -> Any:
    person.script = list(script)
    person.sit_down()
    return ask_person(Screen(json=False), [about], before).get("i")


BUDGET = question("extend_budget", budget="max_tokens", spent=8100, limit=10000, decision="extend", by=10000)


def test_a_budget_is_extended_by_an_amount_and_what_is_no_amount_is_asked_again(person: Person) -> None:
    answer = asked(
        person,
        BUDGET,
        ("What now?", "e"),
        ("empty: by 10000", "many\n"),
        ("no amount", ""),
        ("empty", "5,000\n"),
    )
    assert answer == {"type": "edit", "args": {"decision": "extend", "by": 5000}}


@pytest.mark.parametrize(
    ("keys", "args"),
    [("e", {"decision": "extend"}), ("f", {"decision": "finish"}), ("b", {"decision": "abort"})],
)
def test_a_budget_can_grow_as_proposed_or_end_the_run(person: Person, keys: str, args: Any) -> None:
    answer = asked(person, BUDGET, ("What now?", keys), ("By how much?", "\n"))
    assert answer == {"type": "edit", "args": args}


@pytest.mark.parametrize(("keys", "said"), [("2\n", "Initech"), ("ACME\n", "ACME")])
def test_a_question_in_words_is_answered_by_the_number_of_a_choice_or_in_words(
    person: Person, keys: str, said: str
) -> None:
    about = question("ask_person", question="Which client?", choices=["ACME", "Initech"], answer="")
    answer = asked(person, about, ("Your answer", keys))
    assert answer == {"type": "respond", "message": said}
    assert "2: Initech" in person.shown


def test_ctrl_d_leaves_a_question_open(person: Person) -> None:
    assert asked(person, BUDGET, ("What now?", "\x04")) is None


def test_the_rest_of_a_word_that_is_typed_answers_nothing_else(person: Person) -> None:
    failed = question("handle_step_failure", step_id="a", decision="retry")
    answer = asked(person, failed, ("What now?", "retry\n"), ("A hint for it?", "look again\n"))
    assert answer == {"type": "edit", "args": {"decision": "retry", "instructions": "look again"}}


def test_a_revision_can_be_held_against_the_plan_that_was_approved(person: Person) -> None:
    approved, proposed = plan(bound("a", "look", {"q": "tea"})), plan(bound("a", "look", {"q": "milk"}))
    answer = asked(
        person,
        question("approve_plan", plan=proposed),
        ("What now?", "d"),
        ("q: milk", ""),
        ("What now?", "a"),
        before=Before(approved),
    )
    assert answer == "approve"
    assert "-      q: tea" in person.shown


def test_an_edit_that_comes_back_with_issues_is_edited_on_with_its_comments(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, about = Before(), question("approve_plan", plan=plan(bound("a", "look")))
    monkeypatch.setenv("VISUAL", "sed -i -e '1i # mine' -e 's/tool: look/tool: lok/'")
    first = asked(person, about, ("What now?", "e"), before=before)
    monkeypatch.setenv("VISUAL", "sed -i 's/tool: lok/tool: look/'")
    again = question("approve_plan", plan=first["args"]["plan"])
    second = asked(person, again, ("What now?", "e"), before=before)
    assert second["args"]["plan"]["steps"][0]["call"]["tool"] == "look"
    assert before.text.startswith("# mine\n")


def test_every_choice_has_a_key_and_approve_and_abort_never_share_one() -> None:
    words = ("retry", "skip", "patch", "replan", "supply", "abort", "later")
    assert keys_of(dict.fromkeys(words, "")) == dict(zip("rspnubl", words, strict=True))
    assert keys_of({"approve": "", "edit": "", "reject": "", "later": ""})["a"] == "approve"


def test_a_long_value_is_folded_on_its_own_and_the_next_one_stays_in_sight() -> None:
    text = f"`send` with:\n    - `text` = `{'x' * 5000}`\n    - `to` = ``eve`@example.org``"
    shown = folded(text)
    assert "x" * 600 + "… (4,400 more)`" in shown
    assert shown.endswith("- `to` = ``eve`@example.org``")
    assert folded(shown.split("\n")[0]) == "`send` with:"


def test_what_is_folded_can_be_seen_whole_before_a_call_is_confirmed(person: Person) -> None:
    person.sit_down()
    asked = {"step_id": "w", "tool": "send", "tool_args": {}}
    question = OpenQuestion("q", "confirm_call", asked, f"`{'x' * 700}END`", {})
    person.script = [("What now?", "w"), ("END", ""), ("What now?", "a")]
    assert ask_person(Screen(json=False), [question]) == {"q": "approve"}
