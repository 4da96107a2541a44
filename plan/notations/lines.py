"""A plan in lines: what a planner is asked to write, a sixth of the tokens of the same plan as JSON.

One step a line, a call or work in words, then its options::

    1. price_of("bread")
    2. price_of(item="milk")
    3. add_up([$1.price, $2.price])
    4. "Write a shopping list for ${3}" tools=[search] check="names both things"

The grammar, where blanks may stand anywhere and a bracket or a text may go on over line ends::

    reply     = { step | option | note | answer | end | prose }
    step      = [ "-" ] [ label ] ( call | question | work ) { option }
    label     = number ( "." | ")" | ":" | "=" ) | name ( ":" | "=" )
    call      = tool "(" [ argument { "," argument } ] ")"
    argument  = [ name "=" ] value                    by position: in the order of the tool's schema
              | option                                unless the tool has an argument of this name
    question  = "ask" "(" text [ "," "choices" "=" texts ] ")"     to the person, unless a tool has this name
    work      = [ name of an agent | "goal" ] text    with "goal": the goal of a sub-plan
    option    = "tools=" names | "after=" names | "check=" check | "each=" reference, or a list of values
              | "if=" condition | "else_of=" name | "if_failed=" names | "output=" JSON Schema
              | "confirm=" ( "true" | "false" ) | "model=" class
                                                      on its own line it is for the step before
    check     = text | criterion | "[" { check "," } "]"      a text is for a judge, a criterion is JSON
    value     = JSON | 'text' | True | False | None | reference
    reference = "$" ( number | name ) [ path ] | "${" expression "}"
    note      = "#" words                             the plan's rationale
    answer    = "return" ( text | reference )         the final answer, if it only needs outputs filled in
    end       = "more" | "finished" | "impossible:" reason

Bullets and the like before a step are taken away (see ``line_starts.py``). Prose before the plan is skipped,
and behind it, after an empty line, what speaks of the plan or to its reader; any other is named as a problem.

It is read into the JSON form of the planner's answer (see ``draft.py``): a number becomes an id made
of the step's words, ``$1.price`` becomes ``${id.price}``, values keep their types. Within a text only
``${…}`` is a reference; a ``$1`` there is named as a problem, since it could be an amount or a reference that
is not filled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import known
from ..references import is_single_reference
from ..renaming import rename_in_text, rename_uses
from .ascii_names import in_ascii, unused
from .conditions import list_reference
from .line_starts import TEXTS, Line, label_named, lines_of
from .line_values import ProblemError, Scanner, option_named

__all__ = [
    "TextFormError",
    "Vocabulary",
    "complete_lines",
    "read_lines",
]

Json = Any
Wire = dict[str, Any]
"""A step, or a whole plan, in the JSON form."""


@dataclass(frozen=True)
class Vocabulary:
    """The names that a plan in lines may use.

    Attributes:
        signatures: Names of the arguments of each tool, in order.
        agents: Names of the agents.
        taken: Ids of existing steps, which are not given to new steps automatically.
    """

    signatures: Mapping[str, Sequence[str]] = field(default_factory=dict)
    agents: Collection[str] = ()
    taken: Collection[str] = ()


def read_lines(text: str, words: Vocabulary) -> Wire | None:
    """Read a plan in lines into the JSON form; None if there is no line of a plan.

    Raises:
        TextFormError: If some of it cannot be read; the error names the lines.
    """
    reply = _Reply(words)
    reply.read(text)
    if reply.problems:
        raise TextFormError(reply.problems)
    return reply.plan()


def complete_lines(text: str, words: Vocabulary) -> list[Wire]:
    """Read the steps of a plan that is still being written, up to the first unreadable one."""
    reply = _Reply(words)
    reply.read(text[: text.rfind("\n") + 1], is_whole=False)
    return reply.steps()


# --- reading one line --------------------------------------------------------------------


class _Reply:
    """Reads a reply line by line."""

    def __init__(self, words: Vocabulary) -> None:
        self._words = words
        self._steps: list[Wire] = []
        self._labels: dict[str, str] = {}
        """Ids by label; a number's label is ``_1``, which no id can be."""
        self._notes: list[str] = []
        self._answer: str | None = None
        self._is_plan = False
        """Whether there is more than quoted texts, which any prose may contain."""
        self._is_open = False
        """Whether the previous line belongs to a step; prose right after it may continue the step."""
        self._since_a_step: list[Line] = []
        """Prose since the last step; it belongs to the plan if another step follows."""
        self._may_be_lost: list[Line] = []
        self._numbers: set[str] = set()
        self._end = ""
        self.problems: list[str] = []

    def read(self, text: str, *, is_whole: bool = True) -> None:
        lines = list(lines_of(text, {_ASK: (), **self._words.signatures}, self._words.agents))
        self._numbers = {line.label for line in lines if line.label}
        for line in lines:
            if line.kind == "json" and not self._steps:
                break  # It is a plan in JSON, possibly a broken one.
            try:
                self._take(line)
            except ProblemError as problem:
                if not is_whole:
                    return
                self.problems.append(f"line {line.number}: {problem}; you wrote: {line.said}")
        if is_whole:
            self._tell_of_lost_lines()
            self.problems += self._unknown_numbers()

    def _take(self, line: Line) -> None:
        """Take one line; keep lines outside the plan until it is known whether they belong to it."""
        if line.kind in ("step", "option", "answer"):
            self._may_be_lost += self._since_a_step
            self._since_a_step, self._is_open = [], True
        if line.kind == "step" and not self._is_option(line):
            self._steps.append(self._step(line))
        elif line.kind in ("step", "option"):
            self._add_option(line)
        elif line.kind == "answer":
            self._answer = self._final(line)
        elif line.kind in ("note", "end"):
            self._notes += [line.work] if line.work else []
            self._end = line.end or self._end
            self._is_open = self._is_open and line.kind == "note"
        elif self._could_be_work(line):
            self._may_be_lost.append(line)
        elif line.kind == "closing" and self._steps:
            self._since_a_step.append(line)
        else:
            self._is_open = False

    def _could_be_work(self, line: Line) -> bool:
        """Tell whether prose may be part of the plan: after a step, unless it closes the reply."""
        if line.kind in ("suspect", "json"):
            return True
        return (line.kind == "prose" and bool(self._steps)) or (line.kind == "closing" and self._is_open)

    def _is_option(self, line: Line) -> bool:
        """Tell whether ``check: "…"`` belongs to the previous step; only a step with a name is called so."""
        if line.label or line.title.lower() not in _OPTION_NAMES or not self._steps:
            return False
        return not line.closed or self._steps[-1]["id"].startswith("_")

    def _tell_of_lost_lines(self) -> None:
        if self._steps or self.problems:
            self.problems += [
                f"line {line.number}: {_LOST}; you wrote: {line.said}" for line in self._may_be_lost
            ]

    def _step(self, line: Line) -> Wire:
        name = label_named(line.title) if re.fullmatch(r"\w+", line.title) else ""
        label = line.label or name or self._ordinal()
        again = [one for one in (label, name) if one in self._labels]
        self._labels |= {
            one: one for one in (label, name) if one and one not in again
        }  # What refers to it is right.
        if not line.closed:
            raise ProblemError("a bracket or a text is not closed")
        if _CONDITIONAL.match(line.title):
            raise ProblemError(
                f"{line.title!r} is not a condition here: write if=, else_of=, if_failed= or each= "
                "after a step"
            )
        if again:
            raise ProblemError(f"there are two steps {again[0].lstrip('_')}")
        scanner = Scanner(line.work, {*self._labels, *self._words.taken} - {label, name})
        work = self._work(scanner)
        step = {**_EMPTY, **work, **self._options(scanner, set(work) - {"task"})}
        if not step["task"] and not name:
            step["task"] = line.title
        step_id = self._name(step, line.title if name else "")
        self._labels |= {one: step_id for one in (label, name) if one}
        self._is_plan = self._is_plan or bool(
            line.is_list_item or step["call"] or step["agent"] or step["goal"] or step["ask"]
        )
        return {**step, "id": label}

    def _ordinal(self) -> str:
        """Label a step without a label by its position, unless another step has that number."""
        place = f"_{len(self._steps) + 1}"
        return place if place not in {*self._numbers, *self._labels} else f"_at_{len(self._labels) + 1}"

    def _options(self, scanner: Scanner, before: Collection[str] = ()) -> Wire:
        found: Wire = {}
        while option := scanner.option():
            given = _option(option, scanner)
            if again := given.keys() & {*found, *before}:
                raise ProblemError(f"{option} is given twice ({', '.join(again)})")
            found |= given
        if rest := scanner.rest():
            raise ProblemError(f"this cannot be read: {rest}")
        return found

    def _add_option(self, line: Line) -> None:
        """Add an option on its own line to the previous step."""
        if not self._steps:
            raise ProblemError(
                "an option follows the step that it belongs to, but there is no step before it"
            )
        if not line.closed:
            raise ProblemError("a bracket or a text is not closed")
        written = f"{line.title}={line.work}" if line.kind == "step" else line.work
        added = self._options(Scanner(written, {*self._labels, *self._words.taken}))
        step = self._steps[-1]
        if again := [name for name in added if step.get(name)]:
            raise ProblemError(f"the step before already has this option ({', '.join(again)})")
        step |= added

    def _final(self, line: Line) -> str:
        """Read the answer."""
        if self._answer is not None:
            raise ProblemError("there are two answers")
        scanner = Scanner(line.work, {*self._labels, *self._words.taken})
        answer = str(scanner.value())
        if not line.closed or (rest := scanner.rest()):
            raise ProblemError(f'the answer is return "text with ${{1}}" with nothing after it, not: {rest}')
        return answer

    def _work(self, scanner: Scanner) -> Wire:
        if tool := scanner.take(_CALL):
            name = tool[1]
            if name == _ASK and name not in self._words.signatures:
                return self._question(scanner)
            given, options = self._arguments(name, scanner)
            return {"call": name, "arguments": given, **options}
        found = scanner.take(_WHO)
        if found is None:
            raise ProblemError('a step is tool(arguments) or "work in words", in quotes')
        who, text = found[1], scanner.text()
        if who == "goal":
            return {"goal": text, "task": text}
        if who and who not in self._words.agents:
            raise ProblemError(f"there is no agent {who!r}; known agents: {known(self._words.agents)}")
        return {"task": text, "agent": who or None}

    def _question(self, scanner: Scanner) -> Wire:
        given, options = self._arguments(_ASK, scanner, ("question", "choices"))
        asked, choices = given.pop("question", None), given.pop("choices", [])
        if given or not isinstance(asked, str) or not isinstance(choices, list):
            raise ProblemError('a question to the person is ask("…"), or ask("…", choices=["…", "…"])')
        return {"ask": asked, "task": asked, "choices": [str(choice) for choice in choices], **options}

    def _arguments(
        self, tool: str, scanner: Scanner, order: Sequence[str] | None = None
    ) -> tuple[Wire, Wire]:
        """Read a call's arguments, and the options of its step among them."""
        given, options, order = dict[str, Json](), Wire(), order or self._words.signatures.get(tool)
        if order is None:
            raise ProblemError(f"there is no tool {tool!r}; known tools: {known(self._words.signatures)}")
        for position, named in enumerate(scanner.argument_names()):
            if named is None and position >= len(order):
                raise ProblemError(f"{tool} takes the arguments {known(order)}: give this one by name")
            name = named or order[position]
            if name not in order and (option := option_named(name)):
                options |= _option(option, scanner)
                continue
            if name in given:
                raise ProblemError(f"{tool} is given the argument {name!r} twice")
            given[name] = scanner.value()
        return given, options

    def _name(self, step: Wire, title: str) -> str:
        """Make an id from a step's name or work; the same words give the same id while the plan grows."""
        if title.isascii() and title:
            return title
        said = [step["call"], next(_short_texts(step["arguments"]), "")] if step["call"] else [step["task"]]
        words = re.findall(r"[A-Za-z0-9]+", in_ascii(title or " ".join(said).replace("${", " ")))
        name = "_".join(words[:_WORDS_OF_A_NAME]).lower()[:_LONGEST_NAME].strip("_")
        name = name if name[:1].isalpha() else f"step_{name}".strip("_")
        return unused(
            name, {*self._labels, *self._labels.values(), *self._words.taken, "inputs", "item", "index"}
        )

    def _unknown_numbers(self) -> Iterator[str]:
        for step in self._steps:
            used = _LITERAL.sub("", f"{step['when'] or ''} {step['for_each'] or ''}")
            labels = {*_NUMBERED.findall(json.dumps(step)), *_BARE_NUMBERED.findall(used)}
            named = [*step["depends_on"], *step["if_failed"], step["else_of"] or ""]
            labels |= {label for label in named if label.startswith("_")}
            for label in sorted(labels - set(self._labels)):
                yield f"step {step['id'].lstrip('_')} refers to step {label[1:]}, which does not exist"
        for label in sorted({*_NUMBERED.findall(self._answer or "")} - set(self._labels)):
            yield f"return refers to step {label[1:]}, which does not exist"

    def steps(self) -> list[Wire]:
        """The steps in the JSON form, under their ids."""
        return [self._renamed(step) for step in self._steps]

    def _renamed(self, step: Wire) -> Wire:
        followed: Wire = dict(rename_uses(step, self._labels))  # type: ignore[arg-type]
        arguments = json.dumps(followed["arguments"], ensure_ascii=False) if step["call"] else None
        return {**followed, "id": self._labels[step["id"]], "arguments": arguments}

    def plan(self) -> Wire | None:
        if not (self._is_plan or self._end):
            return None
        if self._steps and self._end in ("impossible", "finished"):
            raise TextFormError([f"{self._end!r} must be the only line, but there are steps"])
        outcome = {"impossible": "cannot_plan", "finished": "finished"}.get(self._end, "plan")
        return {
            "outcome": outcome,
            "rationale": " ".join(self._notes),
            "complete": self._end != "more",
            "answer": None if self._answer is None else rename_in_text(self._answer, self._labels),
            "steps": self.steps(),
        }


_EMPTY: Wire = {
    "task": "",
    "depends_on": [],
    "call": None,
    "arguments": {},
    "tools": [],
    "success_criterion": None,
    "output_schema": None,
    "for_each": None,
    "when": None,
    "agent": None,
    "goal": None,
    "else_of": None,
    "if_failed": [],
    "ask": None,
    "choices": [],
    "model": None,
}
_ASK = "ask"
"""The names of the call that asks the person."""
_WORDS_OF_A_NAME, _LONGEST_NAME = 5, 40
_CALL = re.compile(r"([A-Za-z_][\w.-]*)\s*\(")
_WHO = re.compile(rf"([A-Za-z_][\w.-]*)?\s*(?=[{''.join(TEXTS)}])")
_NUMBERED = re.compile(r"\$\{\s*(_\d+)")
_BARE_NUMBERED = re.compile(r"(?<![\w.])_\d+\b")
_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|\\.")


def _short_texts(arguments: Wire) -> Iterator[str]:
    texts = (value for value in arguments.values() if isinstance(value, str))
    return (text for text in texts if len(text) <= _LONGEST_NAME and "$" not in text)


_CONDITIONAL = re.compile(
    r"(?:if|when|unless|else|elif|otherwise|for|foreach|while|repeat|on|in\s+case|except|catch|only)(?:\b|_)",
    re.IGNORECASE,
)
"""How a label begins that says when, or how often, a step runs."""
_OPTION_NAMES = (
    *("tools", "tool", "after", "check", "each", "if", "output", "if_failed", "else_of"),
    *("confirm", "model"),
)
_LOST = (
    "this is neither a step nor an option of one: write a step as tool(arguments) or "
    '"work in words", and put comments behind a #'
)


def _option(name: str, scanner: Scanner) -> Wire:
    if name == "if":
        return {"when": scanner.condition()}
    if name == "check":
        if scanner.is_at_json():
            return {"success_criterion": json.dumps(scanner.value(), ensure_ascii=False)}
        return {"success_criterion": scanner.words()}
    if name == "tools":
        return {"tools": [one for item in scanner.names() for one in _names_in(item)]}
    if name in ("after", "if_failed", "else_of"):
        return _steps_named(name, [label_named(one) for item in scanner.names() for one in _names_in(item)])
    value = scanner.value(bare=name != "each", refers=True)
    if name == "model":
        return {"model": str(value)}
    if name == "confirm":
        return {"confirm": value is True}
    if name == "output":
        if not isinstance(value, dict):
            raise ProblemError("output= is a JSON Schema, as an object")
        return {"output_schema": json.dumps(value, ensure_ascii=False)}
    return {"for_each": _list_reference(value, scanner)}


def _steps_named(option: str, labels: list[str]) -> Wire:
    if option == "else_of":
        if len(labels) != 1:
            raise ProblemError(f"else_of= is one step, not {len(labels)}")
        return {"else_of": labels[0]}
    return {"depends_on" if option == "after" else "if_failed": labels}


def _list_reference(value: Json, scanner: Scanner) -> str:
    """Read what a loop runs over: a reference to a list, or a list of values or references."""
    if type(value) is int:
        return f"${{_{value}}}"
    items = value if isinstance(value, list) else [value]
    if steps := [one for one in items if type(one) is int and scanner.is_step(one)]:
        number = steps[0]
        raise ProblemError(
            f'each= holds {number}: write ${number} for what step {number} gave, "{number}" for the text, '
            f"each=${{[`{number}`]}} for the number"
        )
    try:
        if isinstance(value, list) or is_single_reference(value):
            return list_reference(items)
    except ValueError as error:
        raise ProblemError(f"each=: {error}") from error
    raise ProblemError('each= is a reference to a list, like $1.items, or the list, like ["a", "b"]')


def _names_in(item: Json) -> Iterator[str]:
    """List the steps or tools in an item of a list of names: a number, a name, a reference, or several."""
    if isinstance(item, int) and not isinstance(item, bool):
        yield str(item)
        return
    for part in re.split(r"\s*(?:[,;]|\band\b)\s*", item) if isinstance(item, str) else [""]:
        found = re.fullmatch(r"\$\{(\w+)\}|(?:steps?\s+)?\$?([\w.-]+)", part, re.IGNORECASE)
        if found is None:
            raise ProblemError(f"a list of names holds {json.dumps(item, ensure_ascii=False)}")
        yield found[1] or found[2]


class TextFormError(ValueError):
    """Problems of reading an answer in a text form, one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
