"""Where a command gets its tools, model, storage, plan and settings from."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..context import Context, Environment
from ..errors import ConfigurationError, MissingModelError, ThreadNotFoundError, known
from .exits import BadUsageError
from .options import CacheOptions, SourceOptions
from .places import Place

if TYPE_CHECKING:
    from ..graph.agent import PlanExecuteAgent
    from ..storage.latest import ThreadSource
    from ..storage.plan_cache import PlanCache
    from ..storage.sqlite import Database
    from ..tools.toolbox import Toolbox

__all__ = [
    "Sources",
    "look_in_this_folder",
    "make_agent",
    "open_agent",
    "open_store",
    "open_threads",
    "read_budgets",
    "read_plan_cache",
    "read_settings",
]


# --- sources --------------------------------------------------------------------------

_NOTHING_GIVEN, _NO_CACHE_ASKED = SourceOptions(), CacheOptions()


@dataclass(frozen=True)
class Sources:
    """What the options and the environment say.

    Attributes:
        tools: References ``module:attribute``.
        toolsets: Names of built-in tool sets.
        mcp: Files of MCP servers.
        workspace: The folder of the built-in tools; None: one for each thread.
        model: The model's name, if one is configured.
        base_url: The model's endpoint.
        rate_limit: How many requests per second it may be sent.
        database: Where the threads are kept.
        prices: A file of what models cost; None: list prices only.
        options: The options as they were given, to repeat them in a hint.
        encryption_key: Opens an encrypted database; only the environment gives it.
    """

    tools: tuple[str, ...]
    model: str | None
    base_url: str | None
    database: Place
    toolsets: tuple[str, ...] = ()
    mcp: tuple[str, ...] = ()
    rate_limit: float | None = None
    workspace: Path | None = None
    prices: str | None = None
    options: tuple[str, ...] = ()
    encryption_key: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, given: SourceOptions = _NOTHING_GIVEN, *, prices: Path | None = None) -> Sources:
        """Combine options with the environment; an option wins."""
        if given.workspace is not None and not given.workspace.is_dir():
            raise BadUsageError(f"--workspace {given.workspace} is not a folder")
        env = Environment.read()
        return cls(
            tools=tuple(given.tools or _listed(env.tools)),
            model=given.model or env.model,
            base_url=given.base_url or env.base_url,
            database=Place.chosen(given.db, env),
            toolsets=tuple(given.toolsets or filter(None, [env.toolsets])),
            mcp=tuple(given.mcp or _listed(env.mcp)),
            rate_limit=env.requests_per_second if given.rate_limit is None else given.rate_limit,
            workspace=given.workspace,
            prices=str(prices) if prices is not None else env.prices,
            encryption_key=env.encryption_key,
            options=tuple(_as_words(given, prices)),
        )

    def require_model(self) -> None:
        """Refuse to plan a goal with no model.

        Raises:
            MissingModelError: If none is configured.
        """
        if self.model is None:
            raise MissingModelError("planning a goal needs a model, and none is configured.")

    def resume_command(self, thread: str) -> str:
        """Write the command that goes on with a thread."""
        return shlex.join(["plan-execute", "resume", thread, *self.options])

    @property
    def has_tools(self) -> bool:
        """Whether any tools were named."""
        return bool(self.tools or self.toolsets or self.mcp)

    def toolbox(self, thread: str = "") -> Toolbox:
        """Load the tools.

        Args:
            thread: Whose workspace the built-in tools get; empty where no tool is called.

        Raises:
            ConfigurationError: If a module, an attribute or what it holds is not as it should be.
        """
        from ..tools.toolbox import Toolbox
        from ..tools.toolsets import names_of_toolsets, toolset
        from ..tools.workspaces import workspace_of

        root = self.workspace or workspace_of(self.database.workspaces, thread)
        sets = [name for listed in self.toolsets for name in names_of_toolsets(listed)]
        built_in = [tool for name in sets for tool in toolset(name, root=root)]
        own = [tool for name in self.tools for tool in _load_tools(name)]
        return Toolbox([*own, *built_in, *self._mcp_tools])

    @cached_property
    def _mcp_tools(self) -> list[Any]:
        # Once: each call would start the servers anew.
        if not self.mcp:
            return []
        from ..tools.mcp import mcp_tools

        return mcp_tools(*self.mcp)


def _as_words(given: SourceOptions, prices: Path | None) -> Iterator[str]:
    """Write the options as they would be given again."""
    rate = "" if given.rate_limit is None else f"{given.rate_limit:g}"
    values = {
        "--tools": given.tools or (),
        "--toolset": given.toolsets or (),
        "--mcp": given.mcp or (),
        "--workspace": [str(given.workspace or "")],
        "--model": [given.model or ""],
        "--base-url": [given.base_url or ""],
        "--prices": [str(prices or "")],
        "--rate-limit": [rate],
        "--db": [Place(given.db or "").shown],
    }
    for name, texts in values.items():
        for text in filter(None, texts):
            yield from (name, text)


# --- tools -------------------------------------------------------------------------------


def _listed(names: str | None) -> list[str]:
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def look_in_this_folder() -> None:
    """Let modules of the current folder be named."""
    here = os.getcwd()
    if here not in sys.path:
        # A console script, unlike `python -m`, does not look into the current folder.
        sys.path.insert(0, here)


def _load_tools(reference: str) -> list[Any]:
    from ..graph.server import load_tools

    look_in_this_folder()
    try:
        found = load_tools(reference)
    except SystemExit as stop:
        raise ConfigurationError(
            f"the tools {reference!r} ended the program while they were imported"
        ) from stop
    return _call_factory(reference, found[0]) if len(found) == 1 and _is_factory(found[0]) else found


def _is_factory(found: Any) -> bool:
    """Tell a function that makes tools from one that is a tool: a tool needs a docstring."""
    import inspect

    if not inspect.isfunction(found) or inspect.signature(found).parameters:
        return False
    returns = str(found.__annotations__.get("return", ""))
    return not found.__doc__ or "Tool" in returns or "Callable" in returns


def _call_factory(reference: str, factory: Any) -> list[Any]:
    try:
        made = factory()
    except Exception as error:
        raise ConfigurationError(
            f"the tools {reference!r} cannot be made: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, list | tuple):
        raise ConfigurationError(
            f"{reference!r} was called for a list of tools, but returned {type(made).__name__}"
        )
    return [*made]


# --- the agent ---------------------------------------------------------------------------


@contextmanager
def open_agent(
    sources: Sources,
    toolbox: Toolbox | None = None,
    *,
    existing: bool = False,
    plan_cache: PlanCache | None = None,
) -> Iterator[PlanExecuteAgent]:
    """Open the storage and build the agent on it.

    Args:
        sources: Where everything is.
        toolbox: The tools, if the command runs any; the model is given only together with them.
        existing: Whether the database must be there already.
        plan_cache: How plans are kept, if they are.

    Raises:
        ThreadNotFoundError: If it must, and is not.
    """
    if existing and sources.database.missing():
        raise ThreadNotFoundError(f"there is no thread yet: {sources.database.name} does not exist")
    with sources.database.open(sources.encryption_key) as (checkpointer, store):
        yield make_agent(sources, toolbox, checkpointer, store, plan_cache)


@contextmanager
def open_threads(sources: Sources, *, existing: bool = False) -> Iterator[ThreadSource]:
    """Open the storage to look at threads, without LangGraph where that is possible.

    Raises:
        ThreadNotFoundError: If the database must be there already, and is not.
    """
    if not _is_plain_file(sources):
        with open_agent(sources, existing=existing) as agent:
            yield agent
        return
    from ..storage.latest import StoredThreads

    def agent_on_it() -> PlanExecuteAgent:
        from ..storage.persistence import persistence_on

        return make_agent(sources, None, *persistence_on(database))

    with _plain_file(sources) as database:
        yield StoredThreads(database, agent_on_it)


@contextmanager
def open_store(sources: Sources) -> Iterator[Any]:
    """Open the store of a database that exists to read rows, without LangGraph where that is possible."""
    if not _is_plain_file(sources):
        with sources.database.open(sources.encryption_key) as (_, store):
            yield store
        return
    from ..storage.latest import StoredRows

    with _plain_file(sources) as database:
        yield StoredRows(database)


def _is_plain_file(sources: Sources) -> bool:
    """Tell whether the database is an SQLite file that is there, without encryption."""
    is_file = not sources.database.is_server and not sources.database.missing()
    return is_file and sources.encryption_key is None


def _plain_file(sources: Sources) -> AbstractContextManager[Database]:
    from ..storage.sqlite import open_database

    return closing(open_database(Path(sources.database.name).expanduser().resolve()))


def make_agent(
    sources: Sources,
    toolbox: Toolbox | None,
    checkpointer: Any,
    store: Any,
    plan_cache: PlanCache | None = None,
) -> PlanExecuteAgent:
    """Build the agent on an open storage."""
    from ..graph import create_plan_execute_agent
    from ..graph.server import watched_by

    agent = create_plan_execute_agent(
        sources.model if toolbox is not None else None,
        toolbox.tools if toolbox is not None else (),
        prices=sources.prices,
        base_url=sources.base_url,
        rate_limit=sources.rate_limit,
        policy=Environment.read().policy,
        checkpointer=checkpointer,
        store=store,
        plan_cache=plan_cache,
    )
    return watched_by(agent, Environment.read())


# --- settings ----------------------------------------------------------------------------


def read_budgets(given: Sequence[str] | None) -> dict[str, float]:
    """Read budgets given as ``NAME=LIMIT`` into settings.

    Raises:
        BadUsageError: If a name is unknown, or a limit is no number.
    """
    from ..spending.budget import BUDGETS

    names = [budget.removeprefix("max_") for budget in BUDGETS]
    read: dict[str, float] = {}
    for text in given or ():
        name, equals, limit = text.partition("=")
        if not equals or name not in names:
            raise BadUsageError(f"--budget {text} is not NAME=LIMIT; known names: {known(names, given=name)}")
        try:
            read[f"max_{name}"] = float(limit) if name in ("cost", "seconds") else int(limit)
        except ValueError as error:
            raise BadUsageError(f"--budget {text}: {limit!r} is not a number") from error
    return read


def _named_model(text: str) -> tuple[str, str]:
    """Split ``NAME=MODEL``; which names there are, the settings say."""
    name, equals, model = text.partition("=")
    if not (equals and name and model):
        raise BadUsageError(f"--models {text} is not NAME=MODEL, such as fast=openai:gpt-5-mini")
    return name, model


def read_settings(
    *,
    yes: bool = False,
    budgets: Sequence[str] | None = None,
    max_cost_per_day: float | None = None,
    max_cost_per_month: float | None = None,
    models: Sequence[str] | None = None,
    **options: Any,
) -> Context | None:
    """Make the run's settings of the options that were given; None: those of the thread.

    Raises:
        ConfigurationError: If a value is out of its range.
    """
    from ..context import to_context

    given = {name: value for name, value in options.items() if value is not None} | read_budgets(budgets)
    if models:
        given["models"] = dict(map(_named_model, models))
    if yes and given.get("approval") not in (None, "never"):
        raise BadUsageError(f"--yes and --approval {given['approval']} contradict each other")
    costs = {"day": max_cost_per_day, "month": max_cost_per_month}
    if limits := [{"per": per, "max_cost": cost} for per, cost in costs.items() if cost is not None]:
        given["spend_limits"] = limits
    return to_context(given | ({"approval": "never"} if yes else {}))


def who_is_there(person: str | None) -> str | None:
    """Name who is at the terminal: as they say, else the user of the operating system, if it has a name."""
    from getpass import getuser

    try:
        return person or getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return None


def in_the_name_of(settings: Context | None, person: str | None) -> Context | None:
    """Say in the settings who is there; alone, that changes no setting of the thread."""
    if person is None:
        return settings
    return Context(person=person) if settings is None else settings.model_copy(update={"person": person})


def read_plan_cache(given: CacheOptions = _NO_CACHE_ASKED, *, for_goal: bool) -> PlanCache | None:
    """Read from the options and the environment how plans are kept; None if they are not kept.

    Args:
        given: The options.
        for_goal: Whether a goal is run; a given plan needs no cache.
    """
    wanted, ttl, namespace = given.wanted, given.ttl, given.namespace
    if not for_goal and (wanted or ttl or namespace):
        raise BadUsageError("a given plan needs no cache: --cache goes with a goal")
    env = Environment.read()
    if not for_goal or not (env.plan_cache if wanted is None else wanted):
        if ttl or namespace:
            raise BadUsageError("--cache-ttl and --cache-namespace need --cache")
        return None
    from ..storage.plan_cache import DEFAULT_NAMESPACE, PlanCache, read_duration

    chosen = ttl or env.plan_cache
    kept_for = read_duration(chosen) if chosen else PlanCache().ttl_s
    return PlanCache(kept_for, namespace or env.plan_cache_namespace or DEFAULT_NAMESPACE)
