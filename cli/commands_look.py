"""The commands that only look: list, show, history, graph."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exits import DONE
from .option_groups import SourceOptions
from .options import Database, JsonOutput, Thread
from .terminal import Screen

if TYPE_CHECKING:
    from .sources import Sources

__all__ = ["graph", "history", "list_", "show"]


def list_(
    db: Database = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="At most so many (default: 50).")
    ] = 50,
    json: JsonOutput = False,
) -> int:
    """List threads, newest first."""
    from ..storage.local import list_threads
    from .overdue import overdue_questions
    from .queueing import queue_now, queued_status, what_keeps
    from .snapshots import look_up, status_of
    from .sources import Sources, open_agent
    from .views import thread_line

    screen, sources = Screen(json=json), Sources.read(SourceOptions(db=db))
    found = []
    rest = 0
    if not sources.database.missing():
        with open_agent(sources) as agent:
            threads, queue = list_threads(agent.checkpointer), queue_now(agent)  # type: ignore[arg-type]
            for thread, at in islice(threads, limit):
                snapshot, queued = look_up(agent, thread), queue.get(thread)
                goal = str(snapshot.values.get("goal") or "")
                status = queued_status(queued, status_of(snapshot))
                entry: dict[str, Any] = {"thread": thread, "at": at, "status": status}
                entry |= {"goal": goal, "overdue": bool(overdue_questions(snapshot))}
                found.append(entry | {"reason": what_keeps(queued)})
            rest = sum(1 for _ in threads)
    if json:
        screen.document({"threads": found, "more": rest})
        return DONE
    for entry in found:
        screen.data(thread_line(**entry))
    if rest or not found:
        screen.note(f"… and {rest} more (--limit)" if rest else "There are no threads yet.")
    return DONE


def show(
    thread: Thread,
    *,
    step: Annotated[
        str | None,
        typer.Option("--step", metavar="ID", help="Print the whole output of this step, and nothing else."),
    ] = None,
    source_options: SourceOptions,
    json: JsonOutput = False,
) -> int:
    """Show a thread: status, plan, questions, answer.

    Questions that nobody answered in time get their careful end first; where steps
    may run after it, that needs the run's --tools and --model.
    """
    from .overdue import apply_careful_ends, overdue_questions
    from .queueing import queued_now, queued_status, what_keeps
    from .snapshots import look_up, open_questions, status_of, values_of
    from .sources import Sources, open_agent
    from .views import thread_lines

    screen = Screen(json=json)
    sources = Sources.read(source_options)
    if step is not None:
        return _show_output(screen, sources, thread, step)
    with open_agent(sources, existing=True) as agent:
        snapshot, queued = look_up(agent, thread), queued_now(agent, thread)
    if overdue_questions(snapshot):
        snapshot = apply_careful_ends(sources, screen, thread) or snapshot
    status, reason = queued_status(queued, status_of(snapshot)), what_keeps(queued)
    if json:
        questions = [question.as_json() for question in open_questions(snapshot)]
        told = {"status": status, "reason": reason, "questions": questions}
        screen.document({"thread": thread, **values_of(snapshot), **told})
        return DONE
    for line in thread_lines(thread, snapshot, status, reason):
        screen.data(line)
    if snapshot.tasks:
        way = "Answer" if snapshot.interrupts else "If nothing runs it any more, go on"
        screen.note(f"{way} with: {sources.resume_command(thread)} (and the --tools and --model of the run)")
    return DONE


def _show_output(screen: Screen, sources: Sources, thread: str, step: str) -> int:
    from ..plan.references import render
    from .snapshots import look_up, results_of
    from .sources import open_agent

    with open_agent(sources, existing=True) as agent:
        result = results_of(look_up(agent, thread)).get(step) or {}
        output = agent.get_output({"configurable": {"thread_id": thread}}, step)
    if screen.json:
        screen.document({"thread": thread, "step": step, **result, "output": output})
    else:
        screen.data(render(output))
    return DONE


def history(thread: Thread, db: Database = None, json: JsonOutput = False) -> int:
    """Print every decision of a thread, and why."""
    from .snapshots import look_up
    from .sources import Sources, open_agent
    from .views import audit_lines

    screen, sources = Screen(json=json), Sources.read(SourceOptions(db=db))
    with open_agent(sources, existing=True) as agent:
        audit = look_up(agent, thread).values.get("audit") or []
    if json:
        screen.document({"thread": thread, "audit": audit})
        return DONE
    for line in audit_lines(audit):
        screen.data(line)
    return DONE


def graph(json: JsonOutput = False) -> int:
    """Print the graph as a Mermaid picture."""
    from ..graph import create_plan_execute_agent

    picture = create_plan_execute_agent().get_graph().draw_mermaid()
    screen = Screen(json=json)
    if json:
        screen.document({"mermaid": picture})
    else:
        screen.data(picture.rstrip())
    return DONE
