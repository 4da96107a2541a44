"""Choose the model for each role; names become chat models on first use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from ..errors import ConfigurationError, MissingModelError, known
from ..state import MODEL_CLASSES, names_a_class
from .endpoints import OPENAI_HOST, attributes_among, endpoint_of

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

__all__ = ["ROLES", "ChatModels", "ModelOf", "Role", "endpoint_of", "model_name", "speaks_openai"]

Role = Literal["planner", "executor", "evaluator", "replanner", "synthesizer"]
ROLES: tuple[Role, ...] = get_args(Role)

_CONFIGURABLE = (*ROLES, *MODEL_CLASSES)
_NO_OVERRIDES: Mapping[str, str] = {}
_LOCAL_KEY = "not-needed"
_WAYS_ON = (
    "a name such as 'openai:gpt-5-mini' (a server and the command line read it from PLAN_EXECUTE_MODEL), "
    "a chat model (a ScriptedModel needs no key), the base URL of a server of your own, "
    "or a plan made of bound steps only."
)


class ModelOf(Protocol):
    """Returns the name of a role's model, or of the one that a step names; empty if there is none."""

    def __call__(self, role: Role, named: str | None = None) -> str:
        """Name it."""
        ...


class ChatModels:
    """The chat models of one agent, by role; a role without its own model uses the default.

    Args:
        default: Name or model for every role that has none of its own; ``None``: no model.
        by_role: Names or models for single roles (see ``ROLES``), and for the classes that steps may name.
        base_url: OpenAI-protocol endpoint for names without another provider; a key is
            then optional. ``None``: the OpenAI client's own settings.
        timeout_s: Seconds that an OpenAI-protocol endpoint may be silent; None: as long as the call may take
            (``Context.call_timeout_s``).
        rate_limit: Requests per second that each model given by name may be sent, on average; None: any.

    A name may hold fallbacks: ``openai:gpt-5-mini|anthropic:claude-haiku-4-5``.

    Raises:
        ConfigurationError: ``by_role`` names a role that does not exist, or the rate is not valid.
    """

    def __init__(
        self,
        default: str | BaseChatModel | None,
        by_role: Mapping[str, str | BaseChatModel] | None = None,
        *,
        base_url: str | None = None,
        timeout_s: float | None = None,
        rate_limit: float | None = None,
    ) -> None:
        if rate_limit is not None and not 0 < rate_limit < float("inf"):
            raise ConfigurationError(f"rate_limit is requests per second, more than 0, not {rate_limit!r}")
        _refuse_unknown(by_role or {}, _CONFIGURABLE)
        self._configured: dict[str, str | BaseChatModel] = dict(by_role or {})
        if default is not None:
            self._configured["default"] = default
        for role, given in self._configured.items():
            if not (given is None or isinstance(given, str) or hasattr(given, "ainvoke")):
                place = "model=" if role == "default" else f"models[{role!r}]"
                kinds = "a LangChain chat model or its name, such as 'openai:gpt-5-mini'"
                raise ConfigurationError(f"{place} takes {kinds}, not {type(given).__name__}")
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._rate_limit = rate_limit
        self._made: dict[str, BaseChatModel] = {}
        self._lock = Lock()

    def get(
        self, role: Role, overrides: Mapping[str, str] = _NO_OVERRIDES, named: str | None = None
    ) -> BaseChatModel:
        """Return the model of a role.

        Args:
            role: Who is asking.
            overrides: Names for this run, by role, class or ``"default"``. Each replaces the entry of
                the same key; after that the role's own entry wins over ``"default"``.
            named: The class or the model that a step names instead.

        Raises:
            MissingModelError: No model is configured for the role, or its key is missing.
            ConfigurationError: The name cannot be turned into a model, or there is no such class.
        """
        chosen = self._choose(role, overrides, named)
        if chosen is None:
            msg = f"the {role} needs a model and none is configured."
            raise MissingModelError(msg, f"Give {_WAYS_ON}")
        return self._make(chosen, role) if isinstance(chosen, str) else chosen

    def has(self, role: Role, overrides: Mapping[str, str] = _NO_OVERRIDES) -> bool:
        """Tell whether a model is configured for a role; nothing is created or contacted."""
        return self._choose(role, overrides) is not None

    def names(self, overrides: Mapping[str, str] = _NO_OVERRIDES) -> ModelOf:
        """Return the name of a role's model, "" if there is none; nothing is created or contacted."""

        def name(role: Role, named: str | None = None) -> str:
            chosen = self._choose(role, overrides, named)
            return chosen if isinstance(chosen, str) else model_name(chosen) if chosen is not None else ""

        return name

    def classes(self, overrides: Mapping[str, str] = _NO_OVERRIDES) -> list[str]:
        """List the classes that steps may name: those for which there is a model."""
        _refuse_unknown(overrides, (*_CONFIGURABLE, "default"))
        return [name for name in MODEL_CLASSES if overrides.get(name) or self._configured.get(name)]

    def problem_with(
        self, named: str, overrides: Mapping[str, str] = _NO_OVERRIDES, *, classes_only: bool = False
    ) -> str:
        """Return why a step cannot use the class or model that it names; "" if it can.

        Args:
            named: What the step names.
            overrides: Names for this run.
            classes_only: Whether a model wrote the step, because only people choose the models themselves.
        """
        classes = self.classes(overrides)
        if classes_only and named not in classes:
            return f"there is no class {named!r} of models; known classes: {known(classes)}"
        try:
            self.get("executor", overrides, named)
        except ConfigurationError as error:
            return str(error)
        return ""

    def _choose(
        self, role: Role, overrides: Mapping[str, str], named: str | None = None
    ) -> str | BaseChatModel | None:
        _refuse_unknown((role,), ROLES)
        classes = self.classes(overrides) if named or overrides else []
        entries = {**self._configured, **overrides} if overrides else self._configured
        if not named:
            return entries.get(role) or entries.get("default") or None
        if named not in classes and names_a_class(named):
            raise ConfigurationError(
                f"there is no class {named!r} of models; known classes: {known(classes)}. "
                f"Give {' and '.join(MODEL_CLASSES)} a model in `models`"
            )
        return entries[named] if named in classes else named

    def _make(self, name: str, role: Role) -> BaseChatModel:
        with self._lock:
            parts = [part.strip() for part in name.split("|")]
            if not all(parts):
                raise ConfigurationError(f"{name!r} of the {role}: a name is missing next to the |")
            members = [self._made_once(part, role) for part in parts]
        if len(members) == 1:
            return members[0]
        from .fallbacks import FallbackModel

        return FallbackModel(members=members)

    def _made_once(self, name: str, role: Role) -> BaseChatModel:
        if name not in self._made:
            limiter = _limiter(self._rate_limit)
            self._made[name] = _create(name, role, self._base_url, self._timeout_s, limiter)
        return self._made[name]


def _limiter(per_second: float | None) -> dict[str, Any]:
    """Return the setting that limits the request rate of a model."""
    if per_second is None:
        return {}
    from langchain_core.rate_limiters import InMemoryRateLimiter

    often = min(0.1, 0.2 / per_second)
    limiter = InMemoryRateLimiter(requests_per_second=per_second, check_every_n_seconds=often)
    return {"rate_limiter": limiter}


def model_name(model: BaseChatModel) -> str:
    """Return a model's name for usage records and messages: its own name, else its class."""
    for attribute in attributes_among(type(model), ("model_name", "model", "model_id")):
        value = getattr(model, attribute, None)
        if isinstance(value, str) and value:
            return value
    return type(model).__name__


def speaks_openai(model: BaseChatModel) -> bool:
    """Tell whether langchain-openai sends the requests, to whatever server."""
    return any(cls.__name__ == "BaseChatOpenAI" for cls in type(model).__mro__)


def _refuse_unknown(names: Iterable[str], accepted: tuple[str, ...]) -> None:
    for name in names:
        if name not in accepted:
            roles = known(role for role in accepted if role not in MODEL_CLASSES)
            msg = f"there is no role {name!r}; known: {roles}"
            raise ConfigurationError(f"{msg}; classes of models: {known(MODEL_CLASSES)}")


def _create(
    name: str, role: Role, base_url: str | None, timeout_s: float | None, settings: Mapping[str, Any]
) -> BaseChatModel:
    provider, bare_name = _provider_of(name, base_url)
    try:
        if provider == "openai" and bare_name == name:
            _refuse_unknown_provider(name, role, base_url)
        if provider == "openai":
            return _create_openai(bare_name, base_url, timeout_s, settings)
        return _init(bare_name, provider, **settings)
    except ImportError as error:
        msg = f"the model {name!r} of the {role} needs a package that is not installed: {error}"
        raise ConfigurationError(msg) from error
    except ConfigurationError:
        raise
    except Exception as error:
        raise _creation_error(name, role, error) from error


def _refuse_unknown_provider(name: str, role: Role, base_url: str | None) -> None:
    """Refuse an unknown provider before a colon, unless a server of your own could know the name."""
    from langchain.chat_models.base import _BUILTIN_PROVIDERS
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    word, colon, _ = name.partition(":")
    if not colon or word == "ft" or base_url:  # ft: marks a fine-tuned model of OpenAI's.
        return
    # Only the client knows which environment variables name another server.
    if OPENAI_HOST not in endpoint_of(ChatOpenAI(model=name, api_key=SecretStr(_LOCAL_KEY))):
        return
    close = get_close_matches(word, _BUILTIN_PROVIDERS, 1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    raise ConfigurationError(
        f"the model {name!r} of the {role}: there is no provider {word!r}{meant}; "
        f"known: {known(_BUILTIN_PROVIDERS, limit=50)}. A model on a server of your own needs "
        "that server's base URL"
    )


def _provider_of(name: str, base_url: str | None) -> tuple[str | None, str]:
    """Split ``provider:name``; ``None`` leaves the provider to LangChain, which can infer it."""
    # The list and the inference are private in langchain 1.4; using them keeps one truth.
    from langchain.chat_models.base import _BUILTIN_PROVIDERS, _attempt_infer_model_provider

    prefix, colon, rest = name.partition(":")
    if colon and prefix.replace("-", "_") in _BUILTIN_PROVIDERS:
        return prefix.replace("-", "_"), rest
    if base_url or _attempt_infer_model_provider(name) in (None, "openai"):
        return "openai", name
    return None, name


def _create_openai(
    name: str, base_url: str | None, timeout_s: float | None, more: Mapping[str, Any]
) -> BaseChatModel:
    from pydantic import SecretStr

    from .openai_endpoint import OpenAIEndpoint

    # We retry ourselves, because retries inside the client would not be counted. Streamed tokens would not be
    # counted either: langchain-openai 1.7.3 asks only OpenAI's server for usage.
    settings: dict[str, Any] = {"max_retries": 0, "timeout": timeout_s, "stream_usage": True, **more}
    if base_url:
        settings["base_url"] = base_url
    try:
        return OpenAIEndpoint(model=name, **settings)
    except Exception as error:
        if not _lacks_key(error):
            raise
        model = OpenAIEndpoint(model=name, api_key=SecretStr(_LOCAL_KEY), **settings)
        # The client has read its environment by now: only a server other than OpenAI's may need no key.
        if OPENAI_HOST in endpoint_of(model):
            raise
        return model


def _init(name: str, provider: str | None, **settings: Any) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    model: BaseChatModel = init_chat_model(name, model_provider=provider, **settings)
    return model


_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9_]*_KEY\b")
"""The variable for the key, in the client's own message."""


def _lacks_key(error: BaseException) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("api_key", "api key", "credentials"))


def _creation_error(name: str, role: Role, error: Exception) -> ConfigurationError:
    if _lacks_key(error):
        variable = _VARIABLE.search(str(error))
        meant = variable[0] if variable else "the variable that its provider names"
        msg = f"the model {name!r} of the {role} has no API key: set {meant}."
        return MissingModelError(msg, f"Or give {_WAYS_ON}")
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    msg = f"the model {name!r} of the {role} cannot be set up: {reason[:300]}"
    return ConfigurationError(msg)
