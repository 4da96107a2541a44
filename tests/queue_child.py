"""The product's own worker in processes of its own: each runs ``work`` on one database."""

from __future__ import annotations

from typing import Any

from crash_child import serve
from logged_tools import Log, make_tools

from plan_execute import create_plan_execute_agent, postgres_persistence, work


def act(job: dict[str, Any]) -> dict[str, Any]:
    """Work until the signal comes, or nothing is left."""
    with postgres_persistence(job["db"], lease_s=job["lease_s"]) as (saver, store):
        log = Log(job["log"])
        agent = create_plan_execute_agent(None, tools=make_tools(log), checkpointer=saver, store=store)
        log.append("ready")
        ended = work(
            agent,
            concurrency=job["concurrency"],
            poll_s=0.1,
            grace_s=job["grace_s"],
            on_thread=lambda taken: log.append("taken", thread=taken.thread_id, status=taken.status),
        )
    return {"ended": dict(ended)}


if __name__ == "__main__":
    serve(act)
