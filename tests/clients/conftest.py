"""The front ends, the server that they talk to, and the model behind it."""

import json
import re

import browser
import front_ends
import pytest
from dev_server import serve
from openai_stub import OpenAIStub, Reply, asks_for_plan

WORK = re.compile(r"(write|keep|echo|hold|fetch|ask|think about) (\w+)")
SENTENCE = "These words come one after the other, as a model says them."


def planned(body):
    """Plan what the goal says in plain words, or what the person said last in place of it: a step per phrase.

    The steps run one after the other where the words say "then", else at the same time.
    """
    said = _text(body["messages"][-1]["content"]).partition("\nGoal:\n")[2]
    goal = said.splitlines()[0]
    objections = re.findall(r"^\d+\. (.*)$", said.partition("rejected your plan")[2], re.MULTILINE)
    if goal.startswith("be refused"):
        return Reply.failure(400, "the stub refuses this request")
    steps, after = [], ""
    for part in (objections[-1] if objections else goal).split("then "):
        lines = [_step(verb, what) + after for verb, what in WORK.findall(part)]
        first = len(steps) + 1
        steps += lines
        after = f" after=[{', '.join(str(number) for number in range(first, len(steps) + 1))}]"
    return Reply(
        "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1)) or "impossible: nothing"
    )


def _step(verb, what):
    if verb == "ask":
        return f'ask("Which {what}?")'
    return f'"think about {what}" tools=[echo]' if verb == "think about" else f"{verb}({json.dumps(what)})"


def _text(content):
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def answer(body):
    """Answer as a model that streams does: plans, calls of tools, decisions, and words."""
    if asks_for_plan(body):
        return planned(body)
    system = _text(body["messages"][0]["content"])
    if body.get("tools") and body["messages"][-1]["role"] == "user":
        what = re.search(r"Your step:\s+think about (\w+)", _text(body["messages"][-1]["content"]))
        return Reply(None, tool_calls=[("echo", {"text": what.group(1) if what else "nothing"})])
    if system.startswith("You write the final answer"):
        results = _text(body["messages"][-1]["content"]).partition("Results")[2]
        found = dict.fromkeys(what for _, what in WORK.findall(results.replace("_", " ")))
        return Reply(f"This is what there is: {', '.join(found)}.", usage=(11, 12), token_s=0.05)
    return Reply(SENTENCE, usage=(11, 16), token_s=0.1)


@pytest.fixture(scope="session")
def model():
    """Serve the model."""
    with OpenAIStub(answer) as stub:
        yield stub


@pytest.fixture(scope="session")
def server(tmp_path_factory, model):
    """Serve the graph with real tools."""
    variables = {"PLAN_EXECUTE_MODEL": "openai:stub", "PLAN_EXECUTE_BASE_URL": model.base_url}
    with serve(tmp_path_factory.mktemp("clients") / "app", "--no-reload", **variables) as started:
        yield started


@pytest.fixture(scope="session")
def clients(tmp_path_factory, server):
    """Start a client when it is asked for; end them all afterwards."""
    started, opened = {}, []
    pictures = front_ends.PICTURES or tmp_path_factory.mktemp("pictures")

    def client(kind):
        if kind not in started:
            opened.append(front_ends.start(kind, server, pictures, tmp_path_factory.mktemp("profile")))
            started[kind] = opened[-1].__enter__()
        return started[kind]

    yield client
    for one in reversed(opened):
        one.__exit__(None, None, None)


@pytest.fixture
def client(request):
    """The client of this test; a picture of how it looks at the end is kept."""
    if not front_ends.SOURCES.is_dir():
        pytest.skip(f"the chat clients are not at {front_ends.SOURCES}")
    if browser.PROGRAM is None:
        pytest.skip("there is no browser")
    one = request.getfixturevalue("clients")(request.param)
    one.begin(request.node.originalname.removeprefix("test_"))
    yield one
    one.picture("end")
