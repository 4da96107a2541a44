"""The jobs of ``economy.py``: tool calls that need each other, in three shapes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # peers run the jobs where there is no LangChain
    from langchain_core.tools import StructuredTool

__all__ = ["JOBS", "Job", "Ref", "ToolCall"]


@dataclass(frozen=True)
class Ref:
    """The output of an earlier call, or one field of it."""

    number: int
    """Of the call, from 1."""
    path: str = ""


@dataclass(frozen=True)
class ToolCall:
    """One call of a job: a tool, its arguments by position, and how long it takes."""

    tool: str
    args: Sequence[Any]
    seconds: float
    task: str
    """The same in words."""

    def refs(self) -> list[Ref]:
        """List the outputs it needs."""
        flat = [item for arg in self.args for item in (arg if isinstance(arg, list) else [arg])]
        return [item for item in flat if isinstance(item, Ref)]


@dataclass(frozen=True)
class Job:
    """A goal, the calls that reach it, and the answer."""

    name: str
    goal: str
    answer: str
    planned: str
    """The answer as a planner writes it, before anything is known: ``${7}`` is the output of call 7."""
    calls: Sequence[ToolCall]
    functions: Sequence[Callable[..., Any]]
    outputs: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        by_name = {function.__name__: function for function in self.functions}
        for call in self.calls:
            self.outputs.append(by_name[call.tool](*self.resolved(call)))

    def resolved(self, call: ToolCall) -> list[Any]:
        """Return a call's arguments with the outputs it needs in them."""

        def value(arg: Any) -> Any:
            if isinstance(arg, list):
                return [value(item) for item in arg]
            if not isinstance(arg, Ref):
                return arg
            output = self.outputs[arg.number - 1]
            return output[arg.path] if arg.path else output

        return [value(arg) for arg in call.args]

    def named(self, call: ToolCall) -> dict[str, Any]:
        """Return a call's resolved arguments by name."""
        function = next(f for f in self.functions if f.__name__ == call.tool)
        return dict(zip(function.__annotations__, self.resolved(call), strict=False))

    def waves(self) -> list[list[ToolCall]]:
        """Group the calls by how many must have gone before."""
        depth: list[int] = []
        for call in self.calls:
            depth.append(1 + max((depth[ref.number - 1] for ref in call.refs()), default=0))
        return [
            [call for call, level in zip(self.calls, depth, strict=True) if level == wave]
            for wave in range(1, max(depth) + 1)
        ]

    def longest_s(self) -> float:
        """Seconds of the longest chain of calls."""
        ends: list[float] = []
        for call in self.calls:
            ends.append(call.seconds + max((ends[ref.number - 1] for ref in call.refs()), default=0.0))
        return max(ends)

    def in_waves_s(self) -> float:
        """Seconds if every call waits for the slowest of the wave before."""
        return sum(max(call.seconds for call in wave) for wave in self.waves())

    def one_by_one_s(self) -> float:
        """Seconds if no two calls run at the same time."""
        return sum(call.seconds for call in self.calls)

    def tools(self, delays: bool) -> list[StructuredTool]:
        """Make the tools; without delays they answer at once."""
        took = {(call.tool, repr(self.resolved(call))): call.seconds * delays for call in self.calls}
        made = [_tool(function, took) for function in self.functions]
        return [tool.model_copy(update={"metadata": {"effect": "read"}}) for tool in made]


def _tool(function: Callable[..., Any], took: dict[tuple[str, str], float]) -> StructuredTool:
    async def call(**args: Any) -> Any:
        await asyncio.sleep(took[(function.__name__, repr(list(args.values())))])
        return function(*args.values())

    from langchain_core.tools import StructuredTool

    described = StructuredTool.from_function(function)
    return StructuredTool(
        name=described.name,
        description=described.description,
        args_schema=described.args_schema,
        coroutine=call,
    )


# --- wide: six lookups, two joins, one comparison ----------------------------------------

PRICES = {"bread": 2.5, "milk": 1.2, "eggs": 3.1, "rice": 1.9, "beans": 1.4, "oil": 5.3}
SECONDS = {"bread": 0.2, "milk": 0.5, "eggs": 2.0, "rice": 0.3, "beans": 0.8, "oil": 1.2}


def price_of(item: str) -> dict[str, Any]:
    """Look up the price of an item in the shop."""
    return {"item": item, "price": PRICES[item]}


def add_up(prices: list[float]) -> float:
    """Add up prices."""
    return round(sum(prices), 2)


def compare(first: float, second: float) -> dict[str, Any]:
    """Compare two totals: which is smaller, and by how much."""
    return {"smaller": "first" if first < second else "second", "by": round(abs(first - second), 2)}


WIDE = Job(
    "wide",
    "Look up the prices of bread, milk and eggs and of rice, beans and oil, add up each of the two baskets, "
    "and tell me which basket is cheaper and by how much.",
    "The first basket (bread, milk, eggs) costs 6.8, the second 8.6: the first is cheaper by 1.8.",
    "The first basket (bread, milk, eggs) costs ${7}, the second ${8}: the ${9.smaller} is cheaper "
    "by ${9.by}.",
    [
        *(ToolCall("price_of", [item], SECONDS[item], f"Price of {item}") for item in PRICES),
        ToolCall("add_up", [[Ref(n, "price") for n in (1, 2, 3)]], 0.3, "Add up the first basket"),
        ToolCall("add_up", [[Ref(n, "price") for n in (4, 5, 6)]], 0.3, "Add up the second basket"),
        ToolCall("compare", [Ref(7), Ref(8)], 0.05, "Compare the totals"),
    ],
    [price_of, add_up, compare],
)

# --- chain: six lookups, each of what the one before found -------------------------------

FACTS = {
    "Heidi": "Johanna Spyri",
    "Johanna Spyri": "Hirzel",
    "Hirzel": "Zurich",
    "Zurich": "Switzerland",
    "Switzerland": "Swiss franc",
    "Swiss franc": 0.81,
}


def author_of(book: str) -> Any:
    """Look up who wrote a book."""
    return FACTS[book]


def birthplace_of(person: str) -> Any:
    """Look up where a person was born."""
    return FACTS[person]


def region_of(place: str) -> Any:
    """Look up the region a place is in."""
    return FACTS[place]


def country_of(region: str) -> Any:
    """Look up the country a region is in."""
    return FACTS[region]


def currency_of(country: str) -> Any:
    """Look up a country's currency."""
    return FACTS[country]


def dollar_rate(currency: str) -> Any:
    """Look up how much of a currency a US dollar buys."""
    return FACTS[currency]


CHAIN = Job(
    "chain",
    "How much of the money of the country where the author of Heidi was born does a US dollar buy?",
    "A US dollar buys 0.81 of the Swiss franc: Johanna Spyri was born in Hirzel, Zurich, Switzerland.",
    "A US dollar buys ${6} of the ${5}: ${1} was born in ${2}, ${3}, ${4}.",
    [
        ToolCall("author_of", ["Heidi"], 0.3, "Who wrote Heidi"),
        ToolCall("birthplace_of", [Ref(1)], 0.3, "Where the author was born"),
        ToolCall("region_of", [Ref(2)], 0.3, "The region of the birthplace"),
        ToolCall("country_of", [Ref(3)], 0.3, "The country of the region"),
        ToolCall("currency_of", [Ref(4)], 0.3, "The money of the country"),
        ToolCall("dollar_rate", [Ref(5)], 0.3, "What a dollar buys of the money"),
    ],
    [author_of, birthplace_of, region_of, country_of, currency_of, dollar_rate],
)

# --- skewed: one slow lookup beside a chain of four and three quick ones -----------------

VISITS = {"north": 410, "south": 385, "east": 402}


def yearly_report(year: int) -> Any:
    """Fetch the visitors of a whole year from the archive. Slow."""
    return {2025: {"visitors": 14950}}[year]


def newest_survey() -> Any:
    """Find the newest survey."""
    return "S-12"


def answers_of(survey: str) -> Any:
    """Fetch the answers to a survey."""
    return {"S-12": [8, 9, 7]}[survey]


def mean_of(numbers: list[int]) -> Any:
    """Calculate a mean."""
    return round(sum(numbers) / len(numbers), 2)


def grade_of(mean: float) -> Any:
    """Turn a survey's mean into a grade."""
    return "good" if mean >= 7 else "poor"


def visitors_at(gate: str) -> Any:
    """Look up today's visitors at a gate."""
    return VISITS[gate]


def summary(year: int, grade: str, today: list[int]) -> Any:
    """Put the figures together."""
    return {"year": year, "grade": grade, "today": sum(today)}


SKEWED = Job(
    "skewed",
    "Summarise the museum: visitors of 2025, the grade that the newest survey gives it, and today's visitors "
    "at the gates north, south and east together.",
    "14950 people came in 2025, the newest survey's grade is good, and 1197 came today.",
    "${9.year} people came in 2025, the newest survey's grade is ${9.grade}, and ${9.today} came today.",
    [
        ToolCall("yearly_report", [2025], 2.0, "Visitors of 2025"),
        ToolCall("newest_survey", [], 0.4, "Find the newest survey"),
        ToolCall("answers_of", [Ref(2)], 0.4, "Fetch the answers to it"),
        ToolCall("mean_of", [Ref(3)], 0.4, "The mean of the answers"),
        ToolCall("grade_of", [Ref(4)], 0.4, "The grade for the mean"),
        ToolCall("visitors_at", ["north"], 0.2, "Visitors at north"),
        ToolCall("visitors_at", ["south"], 0.2, "Visitors at south"),
        ToolCall("visitors_at", ["east"], 0.2, "Visitors at east"),
        ToolCall(
            "summary", [Ref(1, "visitors"), Ref(5), [Ref(n) for n in (6, 7, 8)]], 0.3, "Put it all together"
        ),
    ],
    [yearly_report, newest_survey, answers_of, mean_of, grade_of, visitors_at, summary],
)

JOBS = {job.name: job for job in (WIDE, CHAIN, SKEWED)}
