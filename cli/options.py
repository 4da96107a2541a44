"""The options of commands: those that several share, and those that go together as one object."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from ..errors import known
from .exits import BadUsageError

__all__ = [
    "ApprovalOption",
    "BaseUrl",
    "Budgets",
    "CacheNamespace",
    "CacheOptions",
    "CacheTtl",
    "ConfirmOption",
    "Database",
    "DryRun",
    "Force",
    "Inputs",
    "InputsFile",
    "JsonOutput",
    "MaxParallel",
    "MaxReplans",
    "Mcp",
    "Model",
    "OnFailureOption",
    "Person",
    "Picture",
    "Plain",
    "PlanOutput",
    "PlanningOptions",
    "Prices",
    "Priority",
    "PromotionOptions",
    "Queued",
    "RateLimit",
    "ReportForm",
    "ReportFormatOption",
    "ReportOutput",
    "SettingOptions",
    "SoftShare",
    "SourceOptions",
    "StrictOption",
    "Thread",
    "ToolOptions",
    "Tools",
    "Toolsets",
    "UseCache",
    "When",
    "WhenFailed",
    "WhichCalls",
    "Workspace",
    "Yes",
    "complete_threads",
    "read_words",
    "with_single_options",
]


class When(StrEnum):
    """When a plan needs approval."""

    always = "always"
    writes = "writes"
    never = "never"


class WhichCalls(StrEnum):
    """Which calls a person confirms."""

    marked = "marked"
    computed = "computed"


class WhenFailed(StrEnum):
    """What follows a failed step that does not say so itself."""

    auto = "auto"
    retry = "retry"
    skip = "skip"
    patch = "patch"
    replan = "replan"
    ask = "ask"
    abort = "abort"


class Picture(StrEnum):
    """How a plan is drawn."""

    mermaid = "mermaid"
    svg = "svg"
    text = "text"


class ReportForm(StrEnum):
    """How a report is written."""

    html = "html"
    md = "md"
    json = "json"


def complete_threads(context: typer.Context, incomplete: str) -> list[str]:
    """Name the threads that begin like this, for a shell; those of a server are not asked for."""
    import sqlite3

    from ..context import Environment
    from ..storage.thread_names import thread_names
    from .places import Place

    place = Place.chosen(context.params.get("db"), Environment.read())
    if place.is_server or place.missing():
        return []
    try:
        return [name for name in thread_names(Path(place.name)) if name.startswith(incomplete)]
    except sqlite3.Error:  # the command itself says what is wrong with the database
        return []


Thread = Annotated[
    str | None,
    typer.Argument(
        metavar="[THREAD]",
        autocompletion=complete_threads,
        help="The thread's id, as `run` printed it (default: choose one of the last ones).",
    ),
]
Tools = Annotated[
    list[str] | None,
    typer.Option(
        "--tools",
        metavar="MODULE:ATTRIBUTE",
        help="Tools: a list of them, one tool or function, or a function without parameters and docstring "
        "that returns a list. Modules of the current folder can be named. May be repeated. "
        "[env: PLAN_EXECUTE_TOOLS]",
    ),
]
Toolsets = Annotated[
    list[str] | None,
    typer.Option(
        "--toolset",
        metavar="NAME",
        help="Built-in tools: files, http, or command: and the programs that may run, such as "
        "files,command:git,python. May be repeated. [env: PLAN_EXECUTE_TOOLSETS]",
    ),
]
Mcp = Annotated[
    list[str] | None,
    typer.Option(
        "--mcp",
        metavar="FILE",
        help="Tools of the MCP servers in this JSON file (mcpServers). May be repeated. "
        "[env: PLAN_EXECUTE_MCP]",
    ),
]
Workspace = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        metavar="DIR",
        help="The folder that built-in file tools and commands are confined to "
        "(default: one for the thread, next to the database).",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Such as openai:gpt-5-mini; fallbacks follow after a |. [env: PLAN_EXECUTE_MODEL]",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--models",
        metavar="NAME=MODEL",
        help="The model of a role (planner, executor, evaluator, replanner, synthesizer), or of a class that "
        "steps ask for (fast, strong). May be repeated.",
    ),
]
Escalate = Annotated[
    str | None,
    typer.Option(
        "--escalate",
        metavar="NAME",
        help="Class (such as strong) or model that retries an agent step whose result was not good enough.",
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="An endpoint that speaks OpenAI's protocol; it may need no key. [env: PLAN_EXECUTE_BASE_URL]",
    ),
]
RateLimit = Annotated[
    float | None,
    typer.Option(
        "--rate-limit",
        metavar="N",
        help="Requests per second that a model may be sent, such as 0.5. [env: PLAN_EXECUTE_RATE_LIMIT]",
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="PATH",
        help="Where threads are kept: a file, or postgresql://… (default: your data folder). "
        "[env: PLAN_EXECUTE_DB]",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=VALUE",
        help="A value for an input, of the type that the plan declares; lists and objects as JSON. "
        "May be repeated.",
    ),
]
InputsFile = Annotated[
    Path | None,
    typer.Option(
        "--inputs",
        metavar="FILE",
        help="Input values from a YAML or JSON file (- for stdin); --input wins over it.",
    ),
]
PlanOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="A .yaml, .yml or .json file to write (default, and -: YAML on stdout).",
    ),
]
ReportOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="A .html, .md or .json file to write; an earlier report is replaced "
        "(default, and -: Markdown on stdout).",
    ),
]
ReportFormatOption = Annotated[
    ReportForm | None,
    typer.Option(
        "--format", metavar="WHAT", help="html, md or json (default: what the file's name ends in)."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")]
UseCache = Annotated[
    bool | None,
    typer.Option(
        "--cache/--no-cache",
        help="Reuse the plan of an earlier run of this goal, and keep the plan of this run "
        "(default: --no-cache, unless PLAN_EXECUTE_CACHE says for how long plans are kept).",
    ),
]
CacheTtl = Annotated[
    str | None,
    typer.Option(
        "--cache-ttl",
        metavar="TIME",
        help="How long a plan is kept, such as 12h (default: 7d). [env: PLAN_EXECUTE_CACHE]",
    ),
]
CacheNamespace = Annotated[
    str | None,
    typer.Option(
        "--cache-namespace",
        metavar="NAME",
        help="The cache's namespace: its plans are used in no other one. [env: PLAN_EXECUTE_CACHE_NAMESPACE]",
    ),
]
JsonOutput = Annotated[
    bool,
    typer.Option("--json", help="Print exactly one JSON document on stdout; nobody is asked anything."),
]
Plain = Annotated[
    bool, typer.Option("--plain", help="Show progress as plain lines, also in a terminal: no live view.")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Run nothing: show the steps, their effects, what you would be asked, and an estimate. "
        "A goal is planned, which calls the model.",
    ),
]
Queued = Annotated[
    bool,
    typer.Option("--queue", help="Do not run it here: leave it to the workers (`plan-execute worker`)."),
]
Priority = Annotated[
    int,
    typer.Option(
        "--priority", metavar="N", help="Priority in the queue: the highest goes first (default: 0)."
    ),
]
Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Run plans without asking, writes included (same as --approval never)."),
]
ApprovalOption = Annotated[
    When | None,
    typer.Option(
        "--approval",
        metavar="WHEN",
        help="Ask before a plan runs: always, writes (if it holds a write), never.",
    ),
]
OnFailureOption = Annotated[
    WhenFailed | None,
    typer.Option(
        "--on-failure", metavar="WHAT", help="auto, retry, skip, patch, replan, ask or abort (default: auto)."
    ),
]
ConfirmOption = Annotated[
    WhichCalls | None,
    typer.Option(
        "--confirm",
        metavar="WHICH",
        help="Ask with the final arguments before calls: marked (those of steps with confirm: true), or "
        "computed (also writes whose arguments come from outputs).",
    ),
]
StrictOption = Annotated[
    bool | None, typer.Option("--strict", help="Count steps whose result nobody could verify as not done.")
]
MaxParallel = Annotated[
    int | None, typer.Option("--max-parallel", metavar="N", help="Steps at the same time (default: 8).")
]
CallTimeout = Annotated[
    float | None,
    typer.Option("--call-timeout", metavar="SECONDS", help="Seconds per call to a model (default: 300)."),
]
MaxCallTokens = Annotated[
    int | None,
    typer.Option("--max-call-tokens", metavar="N", help="Tokens per answer of a model (default: its own)."),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="NAME=LIMIT",
        help="What the run may spend: model_calls, tokens, tool_calls, cost or seconds. May be repeated.",
    ),
]
SoftShare = Annotated[
    float | None,
    typer.Option(
        "--soft-share",
        metavar="SHARE",
        help="Share of any budget, such as 0.8, at which you are asked whether to extend it.",
    ),
]
Person = Annotated[
    str | None,
    typer.Option(
        "--person",
        metavar="NAME",
        help="Who gives this order or answer (default: the user of the operating system).",
    ),
]
Tenant = Annotated[
    str | None,
    typer.Option(
        "--tenant", metavar="NAME", help="The tenant whose spending this counts as, by day and month."
    ),
]
MaxCostPerDay = Annotated[
    float | None,
    typer.Option(
        "--max-cost-per-day", metavar="COST", help="What the tenant may spend in a day (UTC), in all runs."
    ),
]
MaxCostPerMonth = Annotated[
    float | None,
    typer.Option(
        "--max-cost-per-month",
        metavar="COST",
        help="What the tenant may spend in a month (UTC), in all runs.",
    ),
]
Prices = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        metavar="FILE",
        help="YAML or JSON of what models cost per million tokens: MODEL: {input: 2, output: 8}. "
        "[env: PLAN_EXECUTE_PRICES]",
    ),
]
MaxReplans = Annotated[
    int | None,
    typer.Option("--max-replans", metavar="N", help="Revisions after the first plan (default: 3)."),
]


def read_words(option: str, given: Iterable[str] | None, names: Collection[str]) -> frozenset[str]:
    """Read an option that may be repeated and whose words may be separated by commas.

    Raises:
        BadUsageError: If a word is not one of the names, or the option names none.
    """
    words = {word.strip() for text in given or () for word in text.split(",") if word.strip()}
    unknown = sorted(words - set(names))
    if unknown or (given and not words):
        raise BadUsageError(
            f"{option} takes {known(names, given=(unknown or [''])[0])}; not {(unknown or [''])[0]!r}"
        )
    return frozenset(words)


# --- options that go together ---------------------------------------------------------


@dataclass(frozen=True)
class SourceOptions:
    """The options that say where a command gets its tools, model and storage from."""

    tools: Tools = None
    toolsets: Toolsets = None
    mcp: Mcp = None
    workspace: Workspace = None
    model: Model = None
    base_url: BaseUrl = None
    rate_limit: RateLimit = None
    db: Database = None


@dataclass(frozen=True)
class _Only:
    """Which options of a group a command has; the others keep their defaults."""

    names: tuple[str, ...]


_TOOLS = ("tools", "toolsets", "mcp")
ToolOptions = Annotated[SourceOptions, _Only(_TOOLS)]
PlanningOptions = Annotated[SourceOptions, _Only((*_TOOLS, "model", "base_url", "rate_limit"))]
PromotionOptions = Annotated[SourceOptions, _Only((*_TOOLS, "db"))]


@dataclass(frozen=True)
class SettingOptions:
    """The run's settings."""

    yes: Yes = False
    approval: ApprovalOption = None
    confirm: ConfirmOption = None
    strict: StrictOption = None
    on_failure: OnFailureOption = None
    max_parallel: MaxParallel = None
    max_replans: MaxReplans = None
    call_timeout_s: CallTimeout = None
    max_call_tokens: MaxCallTokens = None
    budgets: Budgets = None
    soft_share: SoftShare = None
    max_cost_per_day: MaxCostPerDay = None
    max_cost_per_month: MaxCostPerMonth = None
    tenant: Tenant = None
    models: Models = None
    escalate: Escalate = None


@dataclass(frozen=True)
class CacheOptions:
    """Whether and how plans are kept."""

    wanted: UseCache = None
    ttl: CacheTtl = None
    namespace: CacheNamespace = None


def with_single_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the signature that typer reads: its groups of options as single options, in place."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: dict(_options(hint)) for name, hint in hints.items() if is_dataclass(_group(hint))}

    @wraps(command)
    def call(**given: Any) -> int:
        for name, options in groups.items():
            given[name] = _group(hints[name])(**{option: given.pop(option) for option in options})
        return command(**given)

    single: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        added = groups.get(name) or {name: parameter.replace(annotation=hints[name])}
        if both := single.keys() & added.keys() | groups.keys() & added.keys():
            raise TypeError(f"{command.__name__} takes these names twice: {', '.join(sorted(both))}")
        single |= added
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in single.values()]
    call.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in keywords}
    return call


def _group(hint: Any) -> Any:
    """Take the class out of an annotation."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _options(hint: Any) -> Iterator[tuple[str, inspect.Parameter]]:
    """Make a parameter of every option of a group that the annotation leaves in it."""
    kept = [only.names for only in getattr(hint, "__metadata__", ()) if isinstance(only, _Only)]
    types = get_type_hints(_group(hint), include_extras=True)
    for option in fields(_group(hint)):
        if not kept or option.name in kept[0]:
            yield (
                option.name,
                inspect.Parameter(
                    option.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=option.default,
                    annotation=types[option.name],
                ),
            )
