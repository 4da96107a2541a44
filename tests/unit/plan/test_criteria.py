"""Every type of criterion can be written and read wherever plans are, and stands in the pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plan_execute.models.prompts.inventory import describe_form
from plan_execute.plan.criteria import KINDS, Kind, read_criteria
from plan_execute.plan.notations.draft import PlanDraft, steps_from_draft
from plan_execute.plan.notations.lines import Vocabulary, read_lines
from plan_execute.plan.notations.written import written_step

PAGE = Path(__file__).parents[3] / "docs/recover-from-failure.md"
EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


class _NoTools:
    agents: dict[str, Any] = {}  # noqa: RUF012 (a protocol's attribute)

    def inventory(self) -> list[Any]:
        return []


def _step(*criteria: Any) -> Any:
    return {"id": "a", "task": "look", "tools": [], "success_criteria": list(criteria)}


def _from_lines(text: str) -> Any:
    return steps_from_draft(PlanDraft.model_validate(read_lines(text, Vocabulary())))[0]["success_criteria"]


def _from_fields(text: str) -> Any:
    draft = PlanDraft.model_validate_json(f'{{"outcome": "plan", "steps": [{text}]}}')
    return steps_from_draft(draft)[0]["success_criteria"]


@EVERY_KIND
def test_both_notations_write_and_read_every_type_alone_and_beside_another(kind: Kind) -> None:
    one = kind.criterion(kind.example)
    for criteria in ([one], [one, {"type": "judge", "criterion": "is good"}]):
        assert _from_lines(written_step(_step(*criteria), "lines")) == criteria
        assert _from_fields(written_step(_step(*criteria), "fields")) == criteria


@EVERY_KIND
@pytest.mark.parametrize("form", ["lines", "fields"])
def test_a_planner_is_told_of_every_type_that_code_checks(kind: Kind, form: Any) -> None:
    told = describe_form(form, _NoTools(), sub_plans=False)
    assert kind.by_model or all(f'"{name}"' in told for name in (kind.type, *kind.parameters))


@EVERY_KIND
def test_the_page_on_success_names_every_type_in_its_order_with_its_parameter(kind: Kind) -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    row = next((row for row in rows if row.startswith(f"| `{kind.type}` |")), "")
    assert row.split("|")[2].strip() == (f"`{kind.parameter}`" if kind.parameter else "none")
    named = [row.split("`")[1] for row in rows]
    assert [name for name in named if name in KINDS] == list(KINDS)


@pytest.mark.parametrize("written", ["", "  ", "[]", '[" "]'])
def test_nothing_written_is_no_criterion(written: str) -> None:
    assert read_criteria(written) == []


@pytest.mark.parametrize("written", ["42", "[1, 2] are both named", "null", "{it is} nice", "[3]"])
def test_what_is_no_criterion_in_json_is_a_sentence_for_a_judge(written: str) -> None:
    assert read_criteria(written) == [{"type": "judge", "criterion": written}]


def test_an_object_that_a_model_writes_where_text_is_asked_for_is_read_too() -> None:
    step = '{"id": "a", "task": "look", "success_criterion": {"type": "matches", "pattern": "x$"}}'
    assert _from_fields(step) == [{"type": "matches", "pattern": "x$"}]


def test_a_criterion_in_lines_may_refer_to_a_step_and_take_several_lines() -> None:
    read = read_lines(
        '1. "count"\n2. "list" check=[{"type": "matches",\n "pattern": "${1.word}"}, "it is sorted"] after=1',
        Vocabulary(),
    )
    assert steps_from_draft(PlanDraft.model_validate(read))[1]["success_criteria"] == [
        {"type": "matches", "pattern": "${count.word}"},
        {"type": "judge", "criterion": "it is sorted"},
    ]
