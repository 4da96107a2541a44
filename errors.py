"""Every error that plan_execute raises on purpose, each with a stable ``code``.

The tree::

    PlanExecuteError
    ├── ConfigurationError          the agent or a setting cannot work as given
    │   ├── MissingModelError       a model is needed and none is configured
    │   └── ApprovalImpossibleError approval is required, but nobody could ever give it
    ├── InvalidInputError           the goal, the inputs or the shape of the input
    ├── InvalidPlanError            a plan that cannot run (carries its issues)
    ├── ThreadError
    │   ├── ThreadNotFoundError     nothing is stored under this thread id
    │   ├── ThreadBusyError         another runner holds the thread
    │   ├── ThreadUnfinishedError   new input for a run that has not ended
    │   ├── NothingToResumeError    an answer or a resume for a run that has ended
    │   ├── QuestionOpenError       new input while a person is being asked
    │   ├── InvalidAnswerError      an answer that fits no open question
    │   │   └── NotAllowedError     a decision of somebody who may not make it
    │   └── NotPromotableError      a run that no reusable plan can be made of
    ├── ModelCallError              a model could not be used
    │   ├── ModelUnavailableError   network, authentication, rate limit, server error
    │   ├── ModelRefusalError       the model declined to answer
    │   ├── ModelTruncatedError     the answer was cut off at the token limit
    │   ├── ModelOverflowError      the request is longer than the model's context
    │   ├── ModelTimeoutError       the time limit of one call passed
    │   ├── ContentFilterError      the provider withheld the answer
    │   ├── ModelOutputError        no usable answer after bounded repair
    │   └── ScriptError             the scripted model was asked for more, or less, than its script
    ├── StepError                   one attempt of a step failed (becomes ``result["error"]``)
    │   ├── ToolFailedError         a tool raised
    │   ├── BadArgumentsError       arguments that do not fit the tool at run time
    │   ├── UnresolvedReferenceError a reference that has no value at run time
    │   │   └── WorkLimitError      a reference, or a check, that takes too much work
    │   ├── RejectedError           a person rejected the call
    │   ├── CannotError             an agent says that the step cannot be done
    │   ├── NothingDoneError        an agent was to change something, and made no successful write
    │   ├── UnansweredError         a question to the person that nobody answers
    │   ├── ItemsFailedError        items of a for_each failed
    │   ├── OutcomeUnknownError     nobody knows which writes of a loop have happened
    │   ├── RepeatedCallError       a write would be made again, and nobody can be asked
    │   ├── SubPlanError            a sub-plan did not end done
    │   ├── StepTimeoutError        the step's time limit passed
    │   ├── StepStoppedError        somebody told the run to stop
    │   └── IterationLimitError     the step's limit of ReAct turns was reached
    ├── BudgetExceededError         a hard budget would be overrun
    └── StorageError
        ├── StorageDamagedError     what is there is not, or no longer, a usable database
        ├── EncryptionKeyError      the database and the encryption key do not belong together
        └── SchemaVersionError      state written by a newer or unknown version
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

__all__ = [
    "ApprovalImpossibleError",
    "BadArgumentsError",
    "BudgetExceededError",
    "CannotError",
    "ConfigurationError",
    "ContentFilterError",
    "EncryptionKeyError",
    "InvalidAnswerError",
    "InvalidInputError",
    "InvalidPlanError",
    "ItemsFailedError",
    "IterationLimitError",
    "MissingModelError",
    "ModelCallError",
    "ModelOutputError",
    "ModelOverflowError",
    "ModelRefusalError",
    "ModelTimeoutError",
    "ModelTruncatedError",
    "ModelUnavailableError",
    "NotAllowedError",
    "NotPromotableError",
    "NothingDoneError",
    "NothingToResumeError",
    "OutcomeUnknownError",
    "PlanExecuteError",
    "QuestionOpenError",
    "RejectedError",
    "RepeatedCallError",
    "SchemaVersionError",
    "ScriptError",
    "StepError",
    "StepStoppedError",
    "StepTimeoutError",
    "StorageDamagedError",
    "StorageError",
    "SubPlanError",
    "ThreadBusyError",
    "ThreadError",
    "ThreadNotFoundError",
    "ThreadUnfinishedError",
    "ToolFailedError",
    "UnansweredError",
    "UnresolvedReferenceError",
    "WorkLimitError",
    "known",
]


def known(names: Iterable[str], *, limit: int = 20, given: object = None) -> str:
    """List the known names, sorted, for the end of an error message.

    Args:
        names: The accepted names.
        limit: How many to name before "and N more".
        given: What was given instead; the message suggests a known name that is similar.
    """
    ordered = sorted(names)
    if not ordered:
        return "(none)"
    rest = len(ordered) - limit
    listed = ", ".join(ordered[:limit]) + (f" and {rest} more" if rest > 0 else "")
    meant = nearest(given, ordered)
    return listed + (f" (did you mean {meant!r}?)" if meant else "")


def nearest(given: object, names: Iterable[str]) -> str | None:
    """Return the name that is most like a misspelt one; None if none is."""
    if not isinstance(given, str):
        return None
    from difflib import get_close_matches

    by_form = {name.lower().replace("-", "_"): name for name in names}
    close = get_close_matches(given.lower().replace("-", "_"), by_form, 1, 0.7)
    return by_form[close[0]] if close else None


class PlanExecuteError(RuntimeError):
    """Base of everything plan_execute raises on purpose.

    It is a ``RuntimeError``, because the LangGraph server shows clients the messages of those, and "An
    internal error occurred" for unknown exception types (langgraph-api 0.16.7).
    """

    code: ClassVar[str] = "plan_execute_error"


class ConfigurationError(PlanExecuteError):
    """The agent, a tool or a setting cannot work as given."""

    code = "configuration"


class MissingModelError(ConfigurationError):
    """This goal or plan needs a model, but none is configured, or its key is missing.

    Attributes:
        what: The message without the ways that a program has on.
    """

    code = "missing_model"

    def __init__(self, what: str, ways: str = "") -> None:
        super().__init__(f"{what} {ways}" if ways else what)
        self.what = what


class ApprovalImpossibleError(ConfigurationError):
    """The plan needs an approval that nobody could ever give."""

    code = "approval_impossible"


class InvalidInputError(PlanExecuteError):
    """The goal, the inputs or the shape of the input cannot be used."""

    code = "invalid_input"


class InvalidPlanError(PlanExecuteError):
    """A plan that cannot run; ``issues`` says why, one entry per issue."""

    code = "invalid_plan"

    def __init__(self, message: str, issues: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.issues = list(issues)


class ThreadError(PlanExecuteError):
    """The thread is not in a state that allows what was asked."""

    code = "thread"


class ThreadNotFoundError(ThreadError):
    """Nothing is stored under this thread id."""

    code = "thread_not_found"


class ThreadBusyError(ThreadError):
    """Another runner holds this thread."""

    code = "thread_busy"


class ThreadUnfinishedError(ThreadError):
    """New input was sent to a thread whose run has not ended."""

    code = "thread_unfinished"


class NothingToResumeError(ThreadError):
    """The thread's run has ended: there is nothing to resume and no question to answer."""

    code = "nothing_to_resume"


class QuestionOpenError(ThreadError):
    """New input was sent while a person is being asked something."""

    code = "question_open"


class InvalidAnswerError(ThreadError):
    """An answer that fits no open question; the question stays open."""

    code = "invalid_answer"


class NotAllowedError(InvalidAnswerError):
    """A decision of somebody who may not make it; the question stays open."""

    code = "not_allowed"


class NotPromotableError(ThreadError):
    """No reusable plan can be made of this run: it has not succeeded."""

    code = "not_promotable"


class ModelCallError(PlanExecuteError):
    """A model could not be used for what it was asked."""

    code = "model_call"


class ModelUnavailableError(ModelCallError):
    """The endpoint is down, refuses the key, limits the rate or fails."""

    code = "model_unavailable"


class ModelRefusalError(ModelCallError):
    """The model declined to answer."""

    code = "model_refusal"


class ModelTruncatedError(ModelCallError):
    """The answer was cut off at the model's token limit."""

    code = "model_truncated"


class ModelOverflowError(ModelCallError):
    """The request is longer than the model's context; sending it again would not help."""

    code = "model_overflow"


class ModelTimeoutError(ModelCallError):
    """One call took longer than ``call_timeout_s``."""

    code = "model_timeout"


class ContentFilterError(ModelCallError):
    """The provider's content filter withheld the answer."""

    code = "content_filter"


class ModelOutputError(ModelCallError):
    """No usable answer came, even after bounded repair."""

    code = "model_output"


class ScriptError(ModelCallError):
    """The scripted model was asked for more, or less, than its script holds."""

    code = "script"


class StepError(PlanExecuteError):
    """One attempt of a step failed; it becomes the ``error`` of a step result."""

    code = "step_failed"


class ToolFailedError(StepError):
    """A tool raised an exception.

    Args:
        is_answer: Whether the error is the call's result; otherwise the tool may have done its work.
    """

    code = "tool_failed"

    def __init__(self, message: str, *, is_answer: bool = True) -> None:
        super().__init__(message)
        self.is_answer = is_answer


class BadArgumentsError(StepError):
    """The resolved arguments do not fit the tool's own schema."""

    code = "bad_arguments"


class RepeatedCallError(StepError):
    """A write that happened, or may have happened, would be repeated, and nobody can be asked."""

    code = "repeated_call"


class UnresolvedReferenceError(StepError):
    """A reference has no value at run time."""

    code = "unresolved_reference"


class WorkLimitError(UnresolvedReferenceError):
    """A reference, or the check of a value, that would take more work than one check may do."""

    code = "work_limit"


class RejectedError(StepError):
    """A person rejected the call, or nobody could be asked about it."""

    code = "rejected"


class CannotError(StepError):
    """An agent says that the step cannot be done, and why."""

    code = "cannot"


class NothingDoneError(StepError):
    """An agent had to change something, made no successful write, and nothing else shows that it is done."""

    code = "nothing_done"


class UnansweredError(StepError):
    """A person declined a question, or nobody answered it."""

    code = "unanswered"


class ItemsFailedError(StepError):
    """Items of a ``for_each`` failed; ``failed_items`` of the step result says which and why."""

    code = "items_failed"


class OutcomeUnknownError(StepError):
    """Writes of a loop may have happened, but their record is lost: only a person can decide."""

    code = "outcome_unknown"


class SubPlanError(StepError):
    """A sub-plan ended partial, failed or rejected."""

    code = "sub_plan_failed"


class StepTimeoutError(StepError):
    """The step's time limit (seconds of wall time) passed."""

    code = "timeout"


class StepStoppedError(StepError):
    """The step was interrupted because somebody told the run to stop."""

    code = "stopped"


class IterationLimitError(StepError):
    """The step used up its ReAct turns without an answer."""

    code = "max_iterations"


class BudgetExceededError(PlanExecuteError):
    """A hard budget would be overrun; ``budget`` names it.

    Attributes:
        budget: The setting.
        spent: What is used up.
        limit: Its limit.
        midway: Whether an agent was stopped that may have written before.
    """

    code = "budget_exceeded"

    def __init__(self, budget: str, spent: float, limit: float) -> None:
        super().__init__(f"the budget {budget}={limit:g} is used up (spent: {spent:g})")
        self.budget = budget
        self.spent = spent
        self.limit = limit
        self.midway = False


class StorageError(PlanExecuteError):
    """The storage cannot be used."""

    code = "storage"


class StorageDamagedError(StorageError):
    """There is no usable database, or it is no longer usable."""

    code = "storage_damaged"


class EncryptionKeyError(StorageError):
    """The database is encrypted and its key is missing or wrong; or it is plain and there is a key."""

    code = "encryption_key"


class SchemaVersionError(StorageError):
    """A newer or unknown version wrote the state."""

    code = "schema_version"
