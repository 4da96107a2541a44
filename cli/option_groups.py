"""Options that go together: a command takes them as one object, and typer sees each of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from .options import (
    ApprovalOption,
    BaseUrl,
    Budgets,
    CacheNamespace,
    CacheTtl,
    CallTimeout,
    ConfirmOption,
    Database,
    MaxCallTokens,
    MaxParallel,
    MaxReplans,
    Mcp,
    Model,
    OnFailureOption,
    RateLimit,
    SoftShare,
    StrictOption,
    Tools,
    Toolsets,
    UseCache,
    Workspace,
    Yes,
)

__all__ = [
    "CacheOptions",
    "PlanningOptions",
    "PromotionOptions",
    "SettingOptions",
    "SourceOptions",
    "ToolOptions",
    "with_single_options",
]


@dataclass(frozen=True)
class SourceOptions:
    """Where a command gets its tools, model and storage from, as far as options say so."""

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
