"""The picture of the graph in docs/architecture.md is the graph."""

import re
from pathlib import Path

import pytest
from golden.compare import assert_golden

from plan_execute import ScriptedModel, create_plan_execute_agent

CHECKOUT = Path(__file__).parents[2]
NAMES = {"START": "__start__", "END": "__end__"}


def look(city: str) -> str:
    """Look up the weather."""
    return f"sunny in {city}"


@pytest.fixture
def graph():
    return create_plan_execute_agent(None, tools=[look]).get_graph()


def edges_of_picture(markdown):
    """Read (from, to) pairs off the Mermaid block that goes down the page."""
    block = re.search(r"```mermaid\nflowchart TD\n(.*?)```", markdown, re.DOTALL)[1]
    found = re.findall(r"^\s*(\w+)\s*--(?:[^>\n]*--)?>\s*(\w+)\s*$", block, re.MULTILINE)
    arrows = [line for line in block.splitlines() if "-->" in line]
    assert len(found) == len(arrows), "a line of the picture could not be read"
    return {(NAMES.get(a, a), NAMES.get(b, b)) for a, b in found}


def test_the_picture_on_the_page_has_the_edges_of_the_graph(graph):
    drawn = edges_of_picture((CHECKOUT / "docs/architecture.md").read_text(encoding="utf-8"))
    assert drawn == {(edge.source, edge.target) for edge in graph.edges}


def test_the_picture_that_langgraph_draws_stays_as_it_is(graph):
    assert_golden("graph.mmd", graph.draw_mermaid())


def test_the_graph_is_the_same_with_models_and_tools(graph):
    other = create_plan_execute_agent(ScriptedModel(), tools=[look]).get_graph()
    assert (other.nodes.keys(), other.edges) == (graph.nodes.keys(), graph.edges)


def test_the_inner_agent_is_in_the_picture_with_subgraphs_where_there_is_a_model() -> None:
    agent = create_plan_execute_agent(ScriptedModel(), tools=[look])
    for recurse in (False, True):
        assert list(dict(agent.get_subgraphs(recurse=recurse))) == ["executor", "executor|agent"]
    assert "executor:agent" in agent.get_graph(xray=1).nodes
    assert_golden("graph_xray.mmd", agent.get_graph(xray=True).draw_mermaid())


def test_without_a_model_there_is_no_inner_agent() -> None:
    agent = create_plan_execute_agent(None, tools=[look])
    assert dict(agent.get_subgraphs(recurse=True)) == {}
    assert agent.get_graph(xray=True).nodes.keys() == agent.get_graph().nodes.keys()
