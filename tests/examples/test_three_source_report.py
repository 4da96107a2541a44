"""The report demo asks its sources at the same time, and the report says what they say."""

import pytest

from plan_execute import create_plan_execute_agent
from plan_execute.examples import build_demo
from plan_execute.examples.three_source_report.tools import look_up_supplier, report_tools

LOOKUPS = ("sales", "stock", "supplier")


@pytest.fixture(scope="module")
def reported():
    with build_demo("report") as demo:
        agent = create_plan_execute_agent(**demo.agent_args)
        result = agent.invoke({"goal": demo.goal}, context=demo.context)
        yield demo.workspace, result, demo.agent_args["model"]


def test_the_three_lookups_run_at_the_same_time(reported):
    _, result, _ = reported
    lookups = [result["results"][step_id] for step_id in LOOKUPS]
    assert max(r["started_at"] for r in lookups) < min(r["finished_at"] for r in lookups)


def test_the_agent_is_shown_what_the_sources_said(reported):
    _, result, model = reported
    (merging,) = [call for call in model.calls if (call.role, call.step) == ("executor", "merge")]
    shown = merging.messages[-1].text
    assert '"sold": 45' in shown
    assert '"on_shelf": 52' in shown
    assert result["results"]["supplier"]["output"] in shown
    assert merging.tools == ()


def test_the_report_is_on_disk_and_agrees_with_the_sources(reported):
    workspace, result, _ = reported
    report = (workspace / "kettles.md").read_text(encoding="utf-8")
    assert report.strip() == result["results"]["merge"]["output"]
    outputs = {step_id: result["results"][step_id]["output"] for step_id in LOOKUPS}
    assert ", ".join(str(week["sold"]) for week in outputs["sales"]) in report
    assert f"Free on the shelf: {outputs['stock']['on_shelf'] - outputs['stock']['reserved']}," in report
    assert "4 boxes (96 pieces)" in report
    assert outputs["supplier"] == "Delivers within 2 weeks, in boxes of 24."


def test_a_product_that_no_source_knows_is_an_error():
    with pytest.raises(KeyError, match="spoon"):
        look_up_supplier("spoon")


def test_a_report_goes_into_its_folder_only(tmp_path):
    folder = tmp_path / "reports"
    folder.mkdir()
    write = report_tools(folder)[-1]
    with pytest.raises(ValueError, match="not a plain file name"):
        write.invoke({"name": "../report.md", "text": "x"})
    assert [*tmp_path.iterdir()] == [folder]
