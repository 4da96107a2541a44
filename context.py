"""Per-run settings (LangGraph's ``context_schema``); the only reader of environment variables."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .errors import ConfigurationError, known
from .safety.plain_json import plain_json
from .safety.redaction import SHORTEST_SECRET, Redactor
from .state import MODEL_CLASSES, Effect, OnFailure

__all__ = [
    "SECRET_NAMES",
    "ApprovalPolicy",
    "Approvers",
    "Context",
    "Environment",
    "GrammarPolicy",
    "declare_variables",
    "expand_variables",
    "needs_approval",
    "read_policy",
    "run_redactor",
    "secret_values",
    "stricter",
    "to_context",
]

ApprovalPolicy = Literal["always", "writes", "never"]
GrammarPolicy = Literal["auto", "llama.cpp", "vllm", "off"]
ConfirmPolicy = Literal["marked", "computed"]

_STRICTNESS: dict[str, int] = {"never": 0, "writes": 1, "always": 2}
_MODEL_ROLES = ("default", "planner", "executor", "evaluator", "replanner", "synthesizer", *MODEL_CLASSES)

MAX_MODEL_STEPS = 50
"""The most steps that a model may write into one plan if ``max_steps`` is not set."""
MAX_GIVEN_STEPS = 10_000
"""The most steps of a plan from a person or a file if ``max_steps`` is not set."""

SECRET_NAMES = (
    "*API_KEY",
    "*APIKEY",
    "*_TOKEN",
    "*_SECRET",
    "*SECRET_KEY",
    "*ACCESS_KEY",
    "*PRIVATE_KEY",
    "*ENCRYPTION_KEY",
    "*PASSWORD",
    "*PASSWD",
    "*PASSPHRASE",
)
"""Environment variables whose values are secrets if ``secret_names`` is not set."""


QuestionName = Literal[
    "approve_plan",
    "approve_step",
    "confirm_call",
    "ask_person",
    "handle_step_failure",
    "resolve_unknown_outcome",
    "extend_budget",
]


class Approvers(BaseModel):
    """A rule about who decides; without conditions it applies to every decision except questions in words."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    who: tuple[str, ...] = Field(
        min_length=1, description="Ids of persons, or globs; * is anybody whose id is known."
    )
    question: QuestionName | None = Field(default=None, description="Only about this question.")
    effect: Effect | None = Field(default=None, description="Only about tools with this effect.")
    tool: str | None = Field(default=None, description="Only about this tool; a glob.")
    resource: str | None = Field(
        default=None, description="Only about calls that touch this resource; a glob."
    )
    requester: bool = Field(
        default=True, description="Whether the person who started the run may decide too."
    )


class SpendLimit(BaseModel):
    """What a tenant may spend in a day or a month (UTC), over all its threads."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    per: Literal["day", "month"]
    max_cost: float | None = Field(default=None, ge=0, description="Cost; every model needs a price.")
    max_tokens: int | None = Field(default=None, ge=0, description="Tokens in and out.")
    max_model_calls: int | None = Field(default=None, ge=0, description="Calls to models.")

    @model_validator(mode="after")
    def _limits_something(self) -> SpendLimit:
        if self.max_cost is self.max_tokens is self.max_model_calls is None:
            raise ValueError("a spend limit needs max_cost, max_tokens or max_model_calls")
        return self


class Context(BaseModel):
    """Settings of one run. A resume without them uses those with which the thread was started."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        title="plan_execute settings",
        defer_build=True,
    )

    approval: ApprovalPolicy = Field(
        default="writes",
        title="Plan approval",
        description="Ask before a plan runs: always, only if it contains a write, or never.",
    )
    person: str | None = Field(
        default=None,
        min_length=1,
        title="Person",
        description="Who gives the goal or the answer. Not kept for later runs of the thread; a user that "
        "a server has authenticated takes precedence.",
    )
    approvers: tuple[Approvers, ...] = Field(
        default=(),
        title="Who may decide",
        description="Rules such as {who: [ann], effect: write, requester: false}. A decision counts only "
        "if every rule that applies allows it; a later run can only add rules.",
    )
    confirm: ConfirmPolicy = Field(
        default="marked",
        title="Confirm calls",
        description="Show the final arguments before a call and ask: only for steps marked `confirm`, or "
        "also for every write whose arguments come from outputs, including an agent's (`computed`).",
    )
    strict: bool = Field(
        default=False,
        title="Count unverified as not done",
        description="A run with a step whose result nobody could verify is then `partial`, not `done`.",
    )
    on_failure: OnFailure = Field(
        default="auto",
        title="On failure",
        description="What happens after a step failed that has no policy of its own.",
    )
    max_steps: int | None = Field(
        default=None,
        ge=1,
        title="Steps per plan",
        description=f"None: {MAX_MODEL_STEPS} for a model's plan, {MAX_GIVEN_STEPS} for a given one.",
    )
    max_parallel: int = Field(default=8, ge=1, le=1000, title="Steps at the same time")
    max_attempts: int = Field(default=2, ge=1, le=20, title="Attempts per step")
    max_plan_attempts: int = Field(default=3, ge=1, le=20, title="Attempts to write a valid plan")
    max_replans: int = Field(default=3, ge=0, le=100, title="Revisions after the first approved plan")
    max_depth: int = Field(
        default=2, ge=0, le=10, title="Depth of sub-plans", description="0: a plan may have none."
    )
    max_rounds: int = Field(
        default=10,
        ge=0,
        le=1000,
        title="Rounds of a rolling plan",
        description="How often the planner may be asked for the next steps; these are not revisions.",
    )
    max_iterations: int = Field(default=12, ge=1, le=1000, title="ReAct turns per attempt of an agent step")
    max_inline_bytes: int = Field(
        default=32768,
        ge=256,
        title="Bytes of an output that stay in the state",
        description="A larger output goes to a lasting store; the state then holds a handle and a preview.",
    )
    step_timeout_s: float | None = Field(
        default=300.0, gt=0, title="Seconds per attempt of a step", description="None: no limit."
    )
    call_timeout_s: float | None = Field(
        default=300.0, gt=0, title="Seconds per call to a model", description="None: no limit."
    )
    max_call_tokens: int | None = Field(
        default=None,
        ge=1,
        title="Tokens per answer of a model",
        description="Each request carries this or what max_tokens leaves. None: the model's own limit.",
    )
    plan_grammar: GrammarPolicy = Field(
        default="auto",
        title="Grammar for plans",
        description="Make planners follow a grammar built from the tools: if the server says that it is "
        "llama.cpp or vLLM (`auto`), in the form of one of these, or never (`off`).",
    )
    decision_timeout_s: float | None = Field(
        default=None,
        gt=0,
        title="Seconds until an unanswered question gets its safe default",
        description="None: never.",
    )
    max_model_calls: int | None = Field(
        default=None, ge=0, title="Budget: model calls", description="None: no limit."
    )
    max_tokens: int | None = Field(
        default=None, ge=0, title="Budget: tokens in and out", description="None: no limit."
    )
    max_tool_calls: int | None = Field(
        default=None, ge=0, title="Budget: tool calls", description="None: no limit."
    )
    max_cost: float | None = Field(default=None, ge=0, title="Budget: cost", description="None: no limit.")
    max_seconds: float | None = Field(
        default=None, gt=0, title="Budget: seconds of wall time", description="None: no limit."
    )
    spend_limits: tuple[SpendLimit, ...] = Field(
        default=(),
        title="Budgets per day and month",
        description="Such as {per: day, max_cost: 5}: what the tenant may spend over all its threads. A "
        "later run can only add limits.",
    )
    tenant: str | None = Field(
        default=None,
        min_length=1,
        title="Tenant",
        description="Whose spending counts together; a server's authenticated user takes precedence.",
    )
    soft_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        title="Soft share of the budgets",
        description="Share of any budget, such as 0.8, at which no new step starts until a person has said "
        "whether to extend it. None: nobody is asked, and the run ends at the limit.",
    )
    models: dict[str, str] = Field(
        default_factory=dict,
        title="Models by role",
        description="Role (or `default`), or class that steps name (`fast`, `strong`), to model name.",
    )
    escalate: str | None = Field(
        default=None,
        min_length=1,
        title="Model that tries again",
        description="Class (such as `strong`) or name of the model for agent steps whose last result was not "
        "good enough; a step can choose its own. None: the same model.",
    )
    neutralise_links: bool = Field(
        default=False,
        title="Neutralise links in the answer",
        description="Show links, images and HTML of the final answer as text, unless their targets come "
        "from the goal, the conversation, the inputs, the instructions or a given plan.",
    )
    instructions: str = Field(
        default="",
        title="Instructions",
        description="Added to the prompts of every role.",
        json_schema_extra={
            "langgraph_nodes": ["planner", "executor", "replanner", "synthesizer"],
            "langgraph_type": "prompt",
        },
    )

    time_zone: str | None = Field(
        default=None,
        title="Time zone",
        description="IANA name, such as Europe/Berlin, for today's date in prompts. None: the machine's.",
    )

    secret_names: tuple[str, ...] = Field(
        default=SECRET_NAMES,
        title="Names of secrets",
        description="Environment variables (names or globs) whose values are kept out of what is stored.",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _explained(cls, given: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        """Say what is wrong with a setting in our words, whoever makes the context."""
        try:
            settings = read(given)
            problems = _not_kept(settings)
        except ValidationError as error:
            problems = _explain(cls, error)
        if problems:
            raise PydanticCustomError("bad_context", "bad context: {said}", {"said": "; ".join(problems)})
        return settings

    @field_validator("models")
    @classmethod
    def _known_roles(cls, value: dict[str, str]) -> dict[str, str]:
        if unknown := sorted(set(value) - set(_MODEL_ROLES)):
            raise ValueError(f"unknown role {unknown[0]!r}; known roles: {', '.join(_MODEL_ROLES)}")
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        try:
            return value if value is None else ZoneInfo(value).key
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"unknown time zone {value!r}; use an IANA name such as Europe/Berlin") from None

    def step_limit(self, *, by_model: bool, kept: int = 0) -> int:
        """Return how many steps a plan may have.

        Without ``max_steps``, steps that a model's revision has ``kept`` do not count.
        """
        return self.max_steps or (MAX_MODEL_STEPS + kept if by_model else MAX_GIVEN_STEPS)


def to_context(value: Any) -> Context | None:
    """Read a context from the caller's value; None and ``{}`` mean absent.

    Raises:
        ConfigurationError: If a field is unknown or has a wrong value; the message names it.
    """
    if value is None or (isinstance(value, Mapping) and not value):
        return None
    if isinstance(value, Context):
        return value
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"context must be a Context or a mapping, not {type(value).__name__}")
    try:
        return Context.model_validate({**value})
    except ValidationError as error:
        raise ConfigurationError(error.errors()[0]["msg"]) from None


_OF_A_POLICY = ("approval", "approvers", "spend_limits", "tenant")


def read_policy(given: Context | Mapping[str, Any] | str | os.PathLike[str] | None) -> Context:
    """Read the rules for every run of an agent: settings, or a YAML or JSON file of them.

    Raises:
        ConfigurationError: If the file cannot be read, or sets something that a policy cannot set.
    """
    place = "policy"
    if isinstance(given, str | os.PathLike):
        import yaml  # Every start reads the settings, and most have no policy.

        place = f"policy {os.fspath(given)}"
        try:
            given = yaml.safe_load(Path(given).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigurationError(f"{place} cannot be read: {error}") from error
    policy = to_context(given) or Context()
    if unknown := sorted(policy.model_fields_set - set(_OF_A_POLICY)):
        raise ConfigurationError(f"{place} cannot say {unknown[0]!r}; it can say {known(_OF_A_POLICY)}")
    return policy


_RULES: Mapping[object, type[BaseModel]] = {"approvers": Approvers, "spend_limits": SpendLimit}
"""The settings that are lists of rules, and the form of a rule."""


def _explain(form: type[Context], error: ValidationError) -> list[str]:
    problems = []
    for item in error.errors():
        place, said = item["loc"], item["msg"].removeprefix("Value error, ")
        if item["type"] in ("extra_forbidden", "invalid_key"):
            if model := form if len(place) == 1 else _RULES.get(place[0]):
                names = known(model.model_fields, limit=40, given=place[-1])
                said = f"unknown setting; known settings: {names}"
        elif item["type"] not in ("missing", "value_error"):
            said += f", not {reprlib.repr(item['input'])}"
        problems.append(": ".join([".".join(map(str, place)), said] if place else [said]))
    return problems


def _not_kept(settings: Context) -> list[str]:
    """Say which settings cannot be kept with the thread; a subclass's own may be anything."""
    problems = []
    for name, value in settings.model_dump(include={*Context.model_fields}, exclude_defaults=True).items():
        try:
            plain_json(value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    return problems


def secret_values(names: Iterable[str], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Read the secrets with these names or globs; case does not matter.

    Without ``environ``, those of this process and of the programs that it starts (see ``declare_variables``).
    """
    env = os.environ if environ is None else environ
    patterns = tuple(name.upper() for name in names)
    found = {name: env[name].strip() for name in _matching(tuple(sorted(env)), patterns)}
    if environ is None:
        for (label, value), own_patterns in _DECLARED.items():
            if _matching((label.rpartition(".")[2],), (*patterns, *own_patterns)):
                # Two files may give a server of the same name another value.
                found[label if label not in found else f"{label}_{len(found)}"] = value
    return {name: value for name, value in found.items() if len(value) >= SHORTEST_SECRET}


@lru_cache(maxsize=256)  # Every run checks all variables.
def _matching(names: tuple[str, ...], patterns: tuple[str, ...]) -> list[str]:
    return [
        name for name in names if any(fnmatchcase(name.upper().replace("-", "_"), glob) for glob in patterns)
    ]


_DECLARED: dict[tuple[str, str], tuple[str, ...]] = {}
"""Variables that configuration files pass to other programs; kept as long as the process runs."""


def declare_variables(owner: str, variables: Mapping[str, str], secret: Iterable[str] = ()) -> None:
    """Treat another program's variables like our own: by their names, some are secrets.

    Args:
        owner: The program; secrets are marked as ``owner.NAME``.
        variables: Names and values.
        secret: Globs, in capitals and with underscores, of more names that are secrets.
    """
    for name, value in variables.items():
        _DECLARED[f"{owner}.{name}", value.strip()] = tuple(secret)


_VARIABLE = re.compile(r"\$\{(?:env:)?([^{}:]+)(?::-([^{}]*))?\}")


def expand_variables(text: str, environ: Mapping[str, str] | None = None) -> str:
    """Replace ``${NAME}``, ``${env:NAME}`` and ``${NAME:-default}`` with environment variables.

    Raises:
        ConfigurationError: If a variable is not set; the message names it.
    """
    env = os.environ if environ is None else environ

    def value(found: re.Match[str]) -> str:
        name, default = found.groups()
        if name not in env and default is None:
            raise ConfigurationError(f"the environment variable {name} is not set")
        return env.get(name) or default or ""

    expanded = _VARIABLE.sub(value, text)
    if unread := re.search(r"\$\{(?:input|command|config):[^}]*\}", text):
        raise ConfigurationError(f"{unread[0]} is known to editors only; use an environment variable")
    return expanded


def run_redactor(names: Iterable[str] = SECRET_NAMES) -> Redactor:
    """Return the redactor for the current secrets of these names, and for texts that look like keys."""
    return Redactor.of(secret_values(names))


def stricter(left: ApprovalPolicy, right: ApprovalPolicy) -> ApprovalPolicy:
    """Return the policy that asks more often."""
    return max(left, right, key=_STRICTNESS.__getitem__)


def needs_approval(policy: ApprovalPolicy, effects: Iterable[str]) -> bool:
    """Tell whether a plan with these effects needs a person's approval."""
    return policy == "always" or (policy == "writes" and "write" in effects)


_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURING = ("true", "span_only", "span_and_event")
"""Values of OpenTelemetry's own GenAI variable that ask for content on spans."""


@dataclass(frozen=True)
class Environment:
    """Settings from the process environment, for the command line and the server's graph."""

    model: str | None = None
    base_url: str | None = None
    rate_limit: str | None = None
    tools: str | None = None
    database: str | None = None
    editor: str | None = None
    encryption_key: str | None = field(default=None, repr=False)
    prices: str | None = None
    plan_cache: str | None = None
    plan_cache_namespace: str | None = None
    tracing: str | None = None
    captures_content: bool = False
    toolsets: str | None = None
    workspaces: str | None = None
    mcp: str | None = None
    policy: str | None = None

    @property
    def requests_per_second(self) -> float | None:
        """The rate limit for models.

        Raises:
            ConfigurationError: If ``PLAN_EXECUTE_RATE_LIMIT`` is not a number.
        """
        try:
            return None if self.rate_limit is None else float(self.rate_limit)
        except ValueError:
            raise ConfigurationError(
                f"PLAN_EXECUTE_RATE_LIMIT is requests per second, such as 0.5, not {self.rate_limit!r}"
            ) from None

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Environment:
        """Read the variables ``PLAN_EXECUTE_…`` that are named below, and those that others defined."""
        env = os.environ if environ is None else environ
        return cls(
            model=env.get("PLAN_EXECUTE_MODEL") or None,
            base_url=env.get("PLAN_EXECUTE_BASE_URL") or None,
            rate_limit=env.get("PLAN_EXECUTE_RATE_LIMIT") or None,
            tools=env.get("PLAN_EXECUTE_TOOLS") or None,
            database=env.get("PLAN_EXECUTE_DB") or None,
            editor=env.get("VISUAL") or env.get("EDITOR") or None,
            encryption_key=env.get("PLAN_EXECUTE_ENCRYPTION_KEY") or None,
            prices=env.get("PLAN_EXECUTE_PRICES") or None,
            plan_cache=env.get("PLAN_EXECUTE_CACHE") or None,
            plan_cache_namespace=env.get("PLAN_EXECUTE_CACHE_NAMESPACE") or None,
            tracing=env.get("PLAN_EXECUTE_TRACING") or None,
            captures_content=env.get(_CAPTURE, "").strip().lower() in _CAPTURING,
            toolsets=env.get("PLAN_EXECUTE_TOOLSETS") or None,
            workspaces=env.get("PLAN_EXECUTE_WORKSPACES") or None,
            mcp=env.get("PLAN_EXECUTE_MCP") or None,
            policy=env.get("PLAN_EXECUTE_POLICY") or None,
        )
