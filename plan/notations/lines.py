"""A plan in lines: what a planner is asked to write, a fifth of the tokens of the same plan as JSON.

One step a line, a call or work in words, then its options::

    1. price_of("bread")
    2. price_of(item="milk")
    3. add_up([$1.price, $2.price])
    4. "Write a shopping list for ${3}" tools=[search] check="names both things"

The grammar, where blanks may stand anywhere and a bracket or a text may go on over line ends::

    reply     = { step | note | answer | end | other text, which is skipped }
    step      = [ "-" ] [ label ] ( call | question | work ) { option }
    label     = number ( "." | ")" | ":" | "=" ) | name ( ":" | "=" )
    call      = tool "(" [ argument { "," argument } ] ")"
    argument  = [ name "=" ] value                    by position: in the order of the tool's schema
    question  = "ask" "(" text [ "," "choices" "=" texts ] ")"     to the person, unless a tool has this name
    work      = [ name of an agent | "goal" ] text    with "goal": the goal of a sub-plan
    option    = "tools=" names | "after=" names | "check=" text | "each=" reference
              | "if=" condition | "output=" JSON Schema | "confirm=" ( "true" | "false" )
    value     = JSON | 'text' | True | False | None | reference
    reference = "$" ( number | name ) [ path ] | "${" expression "}"
    note      = "#" words                             the plan's rationale
    answer    = "return" ( text | reference )         the final answer, where outputs need only be put in;
                                                      if it cannot be read, or stands twice, there is none
    end       = "more" | "finished" | "impossible:" reason

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
from ..other_notations import other_notations
from ..references import BadReferenceError, is_single_reference
from ..renaming import rename_in_text, rename_uses

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
    """What a plan in lines may name.

    Attributes:
        signatures: Names of the arguments of each tool, in order.
        agents: Names of the agents.
        taken: Ids of steps there are already, which no new step is called by itself.
    """

    signatures: Mapping[str, Sequence[str]] = field(default_factory=dict)
    agents: Collection[str] = ()
    taken: Collection[str] = ()


def read_lines(text: str, words: Vocabulary) -> Wire | None:
    """Read a plan in lines as the JSON form; None where there is no line of a plan.

    Raises:
        TextFormError: If some of it cannot be read; it names the lines.
    """
    reply = _Reply(words)
    reply.read(text)
    if reply.problems:
        raise TextFormError(reply.problems)
    return reply.plan()


def complete_lines(text: str, words: Vocabulary) -> list[Wire]:
    """Read the steps of a plan that is still being written, up to the first that cannot be read."""
    reply = _Reply(words)
    reply.read(text[: text.rfind("\n") + 1], is_whole=False)
    return reply.steps()


# --- finding the lines -------------------------------------------------------------------

_LABEL = re.compile(r"\s*(?:[-*+]\s+)?\$?(?:(?P<number>\d+)\s*[.):=]|(?P<name>[A-Za-z]\w*)\s*[:=])\s*")
_RETURN = re.compile(r"""\s*(?:[-*+]\s+|\d+\s*[.):]\s*)?return\b\s*(?=["'$])""", re.IGNORECASE)
_BULLET = re.compile(r"\s*(?:[-*+]\s+)?")
_WORK = re.compile(r"""[A-Za-z_][\w.-]*\s*\(|(?:[A-Za-z_][\w.-]*\s*)?["']""")
_BARE_CALL = re.compile(r"[A-Za-z_][\w.-]*\(")
"""How a step without a label begins: only so, since prose and JSON stand in the same place."""
_END = re.compile(r"\s*`?(?:(more|finished)[`.]*|impossible\s*:\s*(?P<why>.+?)`?)\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class _Line:
    number: int
    label: str | None
    work: str
    closed: bool
    is_answer: bool = False


def _lines(text: str) -> Iterator[_Line | tuple[str, str]]:
    """Find the steps, and as (kind, words) the notes and the end."""
    at, number = 0, 0
    while at < len(text):
        end = _line_end(text, at)
        number, line = text.count("\n", 0, at) + 1, text[at:end]
        answer = _RETURN.match(line)
        found, start = (None, answer.end()) if answer else _label(line)
        if start is None:
            if line.lstrip().startswith("#"):
                yield "note", line.strip("# \t\r")
            elif ended := _END.match(line):
                yield (ended[1] or "impossible").lower(), ended["why"] or ""
            # The rest is what models say around a plan.
            at = end
        else:
            closing = _closing(text, at + start)
            end = closing if closing is not None else end
            work = text[at + start : end].strip()
            yield _Line(number, found, work, closing is not None, is_answer=answer is not None)
            at = end
        at += 1


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _label(line: str) -> tuple[str | None, int | None]:
    """Find a step's label, and where its work begins; (None, None) if the line is no step."""
    labelled = _LABEL.match(line)
    if labelled and labelled["number"]:
        return f"_{int(labelled['number'])}", labelled.end()
    if labelled and _WORK.match(line, labelled.end()) and not _END.match(line):
        return labelled["name"], labelled.end()
    start = _BULLET.match(line).end()  # type: ignore[union-attr]  # it matches nothing, too
    return (None, start) if _BARE_CALL.match(line, start) else (None, None)


_MARKS = re.compile(r"""\n|\#|["\[\](){}]|(?<!\w)'""")
_PAIRS = {"[": 1, "(": 1, "{": 1, "]": -1, ")": -1, "}": -1}


def _closing(text: str, at: int) -> int | None:
    """Find the line end that no bracket and no text reaches over; None if something is never closed."""
    depth = 0
    while found := _MARKS.search(text, at):
        mark, at = found[0], found.end()
        if mark == "\n" and depth <= 0:
            return found.start()
        if mark == "#" and depth <= 0:
            at = _line_end(text, at)
        elif mark in "\"'":
            closed = _TEXTS[mark].match(text, found.start())
            if closed is None:
                return None
            at = closed.end()
        depth += _PAIRS.get(mark, 0)
    return len(text) if depth <= 0 else None


_TEXTS = {
    '"': re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL),
    "'": re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL),
}


# --- reading one line --------------------------------------------------------------------


class _Reply:
    """Reads a reply line by line."""

    def __init__(self, words: Vocabulary) -> None:
        self._words = words
        self._steps: list[Wire] = []
        self._labels: dict[str, str] = {}
        """Ids by label; a number's label is ``_1``, which no id can be."""
        self._notes: list[str] = []
        self._answers: list[str | None] = []
        """What was to be returned; None for what cannot be read."""
        self._end = ""
        self.problems: list[str] = []

    def read(self, text: str, *, is_whole: bool = True) -> None:
        for line in _lines(text):
            if isinstance(line, tuple):
                self._take(*line)
                continue
            if line.is_answer:
                self._answers.append(self._final(line))
                continue
            label = line.label or f"_{len(self._labels) + 1}"
            try:
                self._steps.append(self._step(line, label))
            except _ProblemError as problem:
                if not is_whole:
                    return
                self._labels.setdefault(label, label)  # lest what refers to it is named, too
                self.problems.append(f"line {line.number}: {problem}")
        self.problems += self._unknown_numbers() if is_whole else ()

    def _take(self, kind: str, words: str) -> None:
        if kind == "note":
            self._notes.append(words)
            return
        self._end = kind
        self._notes += [words] if words else []

    def _step(self, line: _Line, label: str) -> Wire:
        if not line.closed:
            raise _ProblemError("a bracket or a text is not closed")
        if label in self._labels:
            raise _ProblemError(f"there are two steps {label.lstrip('_')}")
        scanner = _Scanner(line.work, {*self._labels, *self._words.taken})
        step = {**_EMPTY, **self._work(scanner)}
        while option := scanner.option():
            step |= _option(option, scanner)
        if rest := scanner.rest():
            raise _ProblemError(f"this cannot be read: {rest}")
        self._labels[label] = label if not label.startswith("_") else self._name(step)
        return {**step, "id": label}

    def _final(self, line: _Line) -> str | None:
        """Read the answer; None if it is none: prose begins alike, and a plan is complete without it."""
        scanner = _Scanner(line.work, {*self._labels, *self._words.taken})
        try:
            answer = str(scanner.value())
        except _ProblemError:
            return None
        return answer if line.closed and not scanner.rest() else None

    @property
    def _answer(self) -> str | None:
        return self._answers[0] if len(self._answers) == 1 else None

    def _work(self, scanner: _Scanner) -> Wire:
        if tool := scanner.take(_CALL):
            name = tool[1]
            if name == _ASK and name not in self._words.signatures:
                return self._question(scanner)
            return {"call": name, "arguments": self._arguments(name, scanner)}
        found = scanner.take(_WHO)
        if found is None:
            raise _ProblemError('a step is tool(arguments) or "work in words", in quotes')
        who, text = found[1], scanner.text()
        if who == "goal":
            return {"goal": text, "task": text}
        if who and who not in self._words.agents:
            raise _ProblemError(f"there is no agent {who!r}; known agents: {known(self._words.agents)}")
        return {"task": text, "agent": who or None}

    def _question(self, scanner: _Scanner) -> Wire:
        given = self._arguments(_ASK, scanner, ("question", "choices"))
        asked, choices = given.pop("question", None), given.pop("choices", [])
        if given or not isinstance(asked, str) or not isinstance(choices, list):
            raise _ProblemError('a question to the person is ask("…"), or ask("…", choices=["…", "…"])')
        return {"ask": asked, "task": asked, "choices": [str(choice) for choice in choices]}

    def _arguments(self, tool: str, scanner: _Scanner, order: Sequence[str] | None = None) -> Wire:
        given, order = dict[str, Json](), order or self._words.signatures.get(tool)
        if order is None:
            raise _ProblemError(f"there is no tool {tool!r}; known tools: {known(self._words.signatures)}")
        for position, (named, value) in enumerate(scanner.arguments()):
            if named is None and position >= len(order):
                raise _ProblemError(f"{tool} takes the arguments {known(order)}: give this one by name")
            name = named or order[position]
            if name in given:
                raise _ProblemError(f"{tool} is given the argument {name!r} twice")
            given[name] = value
        return given

    def _name(self, step: Wire) -> str:
        """Make an id of what a step does; the same words give the same id as the plan grows."""
        said = [step["call"], next(_short_texts(step["arguments"]), "")] if step["call"] else [step["task"]]
        words = re.findall(r"[A-Za-z0-9]+", " ".join(said).replace("${", " "))[:_WORDS_OF_A_NAME]
        name = "_".join(words).lower()[:_LONGEST_NAME].strip("_")
        name = name if name[:1].isalpha() else f"step_{name}".strip("_")
        used = {*self._labels, *self._labels.values(), *self._words.taken, "inputs", "item", "index"}
        again = (f"{name}_{number}" for number in range(2, len(used) + 3))
        return name if name not in used else next(other for other in again if other not in used)

    def _unknown_numbers(self) -> Iterator[str]:
        for step in self._steps:
            labels = {*_NUMBERED.findall(json.dumps(step)), *_BARE_NUMBERED.findall(step["when"] or "")}
            labels |= {label for label in step["depends_on"] if label.startswith("_")}
            for label in sorted(labels - set(self._labels)):
                yield f"step {step['id'].lstrip('_')} refers to step {label[1:]}, and there is none"
        for label in sorted({*_NUMBERED.findall(self._answer or "")} - set(self._labels)):
            yield f"return refers to step {label[1:]}, and there is none"

    def steps(self) -> list[Wire]:
        """The steps in the JSON form, under their ids."""
        return [self._renamed(step) for step in self._steps]

    def _renamed(self, step: Wire) -> Wire:
        followed: Wire = dict(rename_uses(step, self._labels))  # type: ignore[arg-type]
        arguments = json.dumps(followed["arguments"], ensure_ascii=False) if step["call"] else None
        return {**followed, "id": self._labels[step["id"]], "arguments": arguments}

    def plan(self) -> Wire | None:
        if not (self._steps or self._end):
            return None
        if self._steps and self._end in ("impossible", "finished"):
            raise TextFormError([f"{self._end!r} stands alone; here it follows steps"])
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
    "ask": None,
    "choices": [],
}
_ASK = "ask"
"""What a question to the person is written like a call of."""
_WORDS_OF_A_NAME, _LONGEST_NAME = 5, 40
_CALL = re.compile(r"([A-Za-z_][\w.-]*)\s*\(")
_WHO = re.compile(r"""([A-Za-z_][\w.-]*)?\s*(?=["'])""")
_NUMBERED = re.compile(r"\$\{\s*(_\d+)")
_BARE_NUMBERED = re.compile(r"(?<![\w.])_\d+\b")


def _short_texts(arguments: Wire) -> Iterator[str]:
    texts = (value for value in arguments.values() if isinstance(value, str))
    return (text for text in texts if len(text) <= _LONGEST_NAME and "$" not in text)


def _option(name: str, scanner: _Scanner) -> Wire:
    if name == "if":
        return {"when": scanner.condition()}
    if name == "check":
        return {"success_criterion": scanner.text()}
    value = scanner.value(bare=True)
    if name == "confirm":
        return {"confirm": value is True}
    if name in ("tools", "after"):
        names = [_label_of(item) for item in (value if isinstance(value, list) else [value])]
        return {"tools": names} if name == "tools" else {"depends_on": names}
    if name == "output":
        if not isinstance(value, dict):
            raise _ProblemError("output= is a JSON Schema, as an object")
        return {"output_schema": json.dumps(value, ensure_ascii=False)}
    if not (isinstance(value, str) and _is_reference(value)):
        raise _ProblemError("each= is a reference to a list, like $1.items")
    return {"for_each": value}


def _is_reference(text: str) -> bool:
    try:
        return is_single_reference(text)
    except BadReferenceError:
        return False


def _label_of(item: Json) -> str:
    """Name a step or tool as an item of a list does: a number, a name, a reference."""
    if isinstance(item, int) and not isinstance(item, bool):
        return f"_{item}"
    if isinstance(item, str) and (found := re.fullmatch(r"\$\{(\w+)\}|([\w.-]+)", item)):
        return found[1] or found[2]
    raise _ProblemError(f"a list of names holds {json.dumps(item)}")


# --- reading values ----------------------------------------------------------------------


class _ProblemError(Exception):
    """What is wrong with a line."""


_BLANKS = re.compile(r"\s+")
_BETWEEN = re.compile(r"(?:[\s,;|]|#[^\n]*)+")
_OPTION = re.compile(r"(tools|after|check|each|if|output|confirm)\s*=\s*")
_ARGUMENT = re.compile(r"([A-Za-z_][\w-]*)\s*=(?!=)\s*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])")
_NAME = re.compile(r"[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*")
_ROOT = re.compile(r"\$(\w+)")
_PATH = re.compile(r"""\.(?:[A-Za-z_]\w*|"[^"\n]*"|\*)|\[""")
_CONSTANTS = {"true": True, "false": False, "null": None, "none": None}
_DOLLAR = re.compile(r"\$(\w+)(?![\w]|[.,]\d)")
_BRACED_NUMBER = re.compile(r"(?<!\$)(\$\{\s*)\$?(\d+)(?=\s*[.\[|}])")
_IN_CONDITION = re.compile(r"\$(?:\{\s*\$?(\w+)([^}]*)\}|(\w+))")


class _Scanner:
    """Reads the parts of one line, from left to right."""

    def __init__(self, text: str, labels: Collection[str]) -> None:
        self._text, self._at, self._labels = text, 0, labels

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Read what the pattern matches here, after blanks."""
        if blanks := _BLANKS.match(self._text, self._at):
            self._at = blanks.end()
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return found

    def option(self) -> str | None:
        """Read the name of the next option."""
        self.take(_BETWEEN)
        found = self.take(_OPTION)
        return found[1] if found else None

    def rest(self) -> str:
        """Return what is left, shortened."""
        self.take(_BETWEEN)
        rest = " ".join(self._text[self._at :].split())
        return rest if len(rest) <= 60 else f"{rest[:60]}…"

    def arguments(self) -> Iterator[tuple[str | None, Json]]:
        """Read a call's arguments up to its closing bracket, as (name or None, value)."""
        while not self._takes(")"):
            named = self.take(_ARGUMENT)
            yield (named[1] if named else None), self.value()
            self._next(")")

    def _takes(self, mark: str) -> bool:
        return self.take(re.compile(re.escape(mark))) is not None

    def _next(self, closing: str) -> None:
        if not self._takes(",") and not self._text.startswith(closing, self._at):
            raise _ProblemError(f"expected , or {closing} before: {self.rest() or 'the end'}")

    def value(self, *, bare: bool = False) -> Json:
        """Read one value; a word without quotes is one where it is ``bare``.

        Raises:
            _ProblemError: If there is none.
        """
        self.take(_BLANKS)
        mark = self._text[self._at : self._at + 1]
        if mark and mark in "\"'":
            return self.text()
        if mark == "$":
            return self._reference()
        if self._takes("["):
            return list(self._items(bare=bare))
        if self._takes("{"):
            return dict(self._members())
        if number := self.take(_NUMBER):
            return json.loads(number[0])
        return self._word(bare=bare)

    def _items(self, *, bare: bool) -> Iterator[Json]:
        while not self._takes("]"):
            yield self.value(bare=bare)
            self._next("]")

    def _members(self) -> Iterator[tuple[str, Json]]:
        while not self._takes("}"):
            self.take(_BLANKS)
            bare = self.take(_NAME)
            key = bare[0] if bare else self.text()
            if not self._takes(":"):
                raise _ProblemError(f"expected : after the key {key!r}")
            yield key, self.value()
            self._next("}")

    def text(self) -> str:
        """Read a text in quotes; what is escaped in it is as in JSON.

        Raises:
            _ProblemError: If it names a step by ``$1``, which within a text is no reference.
        """
        quoted = self._quoted()
        for dollar in _DOLLAR.finditer(quoted):
            if _label_named(dollar[1]) in self._labels:
                raise _ProblemError(
                    f"within a text write ${{{dollar[1]}}} for the output of step {dollar[1]}; for the "
                    f"characters {dollar[0]} write \\u0024{dollar[1]}"
                )
        for found in other_notations(quoted, self._meant):
            raise _ProblemError(
                f"{found.text} is no reference: write {found.right}, or {found.literal} for the text"
            )
        return _BRACED_NUMBER.sub(r"\1_\2", _unescaped(quoted))

    def _meant(self, name: str, path: str) -> str | None:
        return f"${{{name}{path}}}" if _label_named(name) in self._labels else None

    def _quoted(self) -> str:
        found = self.take(_QUOTED)
        if found is None:
            raise _ProblemError(f"expected a text in quotes before: {self.rest() or 'the end'}")
        return found[0]

    def condition(self) -> str:
        """Read a condition, where steps are named with a ``$`` or without."""
        if self.take(_BLANKS) or not self._text.startswith("$", self._at):
            said = _unescaped(self._quoted())
        else:
            said = self._reference()
        return _IN_CONDITION.sub(lambda found: _label_named(found[1] or found[3]) + (found[2] or ""), said)

    def _reference(self) -> str:
        if self._text.startswith("${", self._at):
            end = _bracket_end(self._text, self._at + 1)
            found, self._at = self._text[self._at : end], end
            return _BRACED_NUMBER.sub(r"\1_\2", found)
        root = self.take(_ROOT)
        if root is None:
            raise _ProblemError("a $ stands before a step's number or name")
        return f"${{{_label_named(root[1])}{self._path()}}}"

    def _path(self) -> str:
        start = self._at
        while part := _PATH.match(self._text, self._at):
            self._at = _bracket_end(self._text, self._at) if part[0] == "[" else part.end()
        return self._text[start : self._at]

    def _word(self, *, bare: bool) -> Json:
        found = self.take(_NAME)
        if found is None:
            raise _ProblemError(f"expected a value before: {self.rest() or 'the end'}")
        word, root = found[0], found[0].split(".")[0]
        if word.lower() in _CONSTANTS:
            return _CONSTANTS[word.lower()]
        if root in self._labels or root == "inputs":
            return f"${{{word}{self._path()}}}"
        if bare:
            return word
        raise _ProblemError(f"{word} is no value: quote a text, and write ${word} for a step of that name")


def _label_named(name: str) -> str:
    return f"_{int(name)}" if name.isdecimal() else name


_QUOTED = re.compile("|".join(pattern.pattern for pattern in _TEXTS.values()), re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)|\"", re.DOTALL)


def _unescaped(quoted: str) -> str:
    """Read a text in quotes: escapes are those of JSON, and any other backslash stands for itself."""
    text: str = json.loads(f'"{_ESCAPE.sub(_as_json, quoted[1:-1])}"', strict=False)
    # Nothing could store or send half a character.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _as_json(found: re.Match[str]) -> str:
    escaped = found[1]
    if escaped is None:
        return '\\"'
    if escaped == "'":
        return "'"
    return found[0] if len(escaped) > 1 or escaped in '"\\/bfnrt' else f"\\{found[0]}"


def _bracket_end(text: str, at: int) -> int:
    """Find the end of what is in the bracket that opens here."""
    depth = 0
    for found in _NESTING.finditer(text, at):
        depth += _PAIRS.get(found[0], 0)
        if depth == 0:
            return found.end()
    raise _ProblemError("a bracket is not closed")


_NESTING = re.compile(r"""[\[\](){}]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`""")


class TextFormError(ValueError):
    """What stands in the way of reading an answer in a text form, one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
