"""The runs that several files look at, made once."""

import asyncio

import pytest
from reported import hostile_run, many_steps, revised_run, small_run, waiting_run


@pytest.fixture(scope="session")
def small():
    return asyncio.run(small_run())


@pytest.fixture(scope="session")
def revised():
    return asyncio.run(revised_run())


@pytest.fixture(scope="session")
def waiting():
    return asyncio.run(waiting_run())


@pytest.fixture(scope="session")
def hostile():
    return asyncio.run(hostile_run())


@pytest.fixture(scope="session")
def many():
    return asyncio.run(many_steps(200))
