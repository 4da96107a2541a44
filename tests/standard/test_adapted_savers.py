"""LangGraph's conformance suite on the adapter that other people's savers run behind.

The savers of our own pass it in tests/unit/storage: SQLite, plain and encrypted, and PostgreSQL.
"""

import sqlite3
from contextlib import closing

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from plan_execute.storage.adapters import async_saver

UNKNOWN_TO_THE_SAVERS = {"delete_for_runs", "copy_thread", "prune"}
"""What LangGraph's own savers do not do (langgraph-checkpoint 4.3.2), and so no adapter of them."""


async def in_memory():
    yield async_saver(InMemorySaver())


async def synchronous():
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        yield async_saver(SqliteSaver(connection))


async def asynchronous():
    async with AsyncSqliteSaver.from_conn_string(":memory:") as saver:
        yield async_saver(saver)


@pytest.mark.parametrize("fresh", [in_memory, synchronous, asynchronous])
async def test_an_adapted_saver_passes_langgraphs_conformance_suite(fresh):
    adapted = checkpointer_test(name=fresh.__name__, skip_capabilities=UNKNOWN_TO_THE_SAVERS)
    report = await validate(adapted(fresh))
    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert failures == {}
    assert report.passed_all_base()
