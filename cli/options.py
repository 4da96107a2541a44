"""The options that several commands share; nothing heavy is imported to declare them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ApprovalOption",
    "BaseUrl",
    "Budgets",
    "CacheNamespace",
    "CacheTtl",
    "ConfirmOption",
    "Database",
    "Force",
    "Inputs",
    "InputsFile",
    "JsonOutput",
    "MaxParallel",
    "MaxReplans",
    "Mcp",
    "Model",
    "OnFailureOption",
    "Plain",
    "PlanOutput",
    "Prices",
    "Queued",
    "RateLimit",
    "ReportForm",
    "ReportFormatOption",
    "ReportOutput",
    "SoftShare",
    "StrictOption",
    "Thread",
    "Tools",
    "Toolsets",
    "UseCache",
    "When",
    "WhenFailed",
    "WhichCalls",
    "Workspace",
    "Yes",
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


class ReportForm(StrEnum):
    """How a report is written."""

    html = "html"
    md = "md"
    json = "json"


Thread = Annotated[str, typer.Argument(metavar="THREAD", help="The thread's id, as `run` printed it.")]
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
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there already.")]
UseCache = Annotated[
    bool | None,
    typer.Option(
        "--cache/--no-cache",
        help="Use the plan again that did this goal before, and keep the one that does it now "
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
        help="Whose plans: they are never used in another namespace. [env: PLAN_EXECUTE_CACHE_NAMESPACE]",
    ),
]
JsonOutput = Annotated[
    bool,
    typer.Option("--json", help="Print exactly one JSON document on stdout; nobody is asked anything."),
]
Plain = Annotated[
    bool, typer.Option("--plain", help="Show progress as plain lines, also in a terminal: no live view.")
]
Queued = Annotated[
    bool,
    typer.Option("--queue", help="Do not run it here: leave it to the workers (`plan-execute worker`)."),
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
