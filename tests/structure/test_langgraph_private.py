"""What is private in LangGraph is used in one module, so that an upgrade is looked through in one place."""

import ast
import importlib
import pkgutil
from functools import cache
from pathlib import Path

import langgraph.graph
import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.store.base import BaseStore

import plan_execute

CHECKOUT = Path(plan_execute.__file__).parent
LANGGRAPH = Path(langgraph.graph.__file__).parents[1]
THE_MODULE = "langgraph_private.py"
NOT_PRODUCT = {"tests", "benchmarks", "docs", "build", "dist"}
OF_PYTHON = {"_replace", "_asdict", "_fields", "_make", "_abc_impl"}
KEYS = ("__resume__", "__start__", "__interrupt__")


def product_files():
    for top in sorted(CHECKOUT.iterdir()):
        if top.name not in NOT_PRODUCT and not top.name.startswith("."):
            yield from sorted(top.rglob("*.py")) if top.is_dir() else [top] * (top.suffix == ".py")


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def names_defined(tree):
    """Collect the private names that a module defines: functions, classes, attributes, variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.attr if isinstance(node, ast.Attribute) else node.id


@cache
def private_in_langgraph():
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in LANGGRAPH.rglob("*.py"))
    return {name for tree in trees for name in names_defined(tree) if is_private(name)} - OF_PYTHON


def private_uses(tree):
    """Name what a module uses of LangGraph that is private there and not its own."""
    own = {name for name in names_defined(tree) if is_private(name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("langgraph"):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (f"{node.module}: {part}" for part in parts if is_private(part))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.startswith("__pregel") or node.value in (
                "__resume__",
                "__start__",
                "__interrupt__",
            ):
                yield node.value
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if node.attr in private_in_langgraph() and not is_own:
                yield f"._{node.attr.lstrip('_')}"


def uses_in(path):
    return sorted(set(private_uses(ast.parse(path.read_text(encoding="utf-8")))))


def test_only_one_module_uses_what_is_private_in_langgraph():
    uses = {str(path.relative_to(CHECKOUT)): uses_in(path) for path in product_files()}
    assert {path for path, found in uses.items() if found} == {THE_MODULE}


@pytest.mark.parametrize(
    "code",
    [
        "from langgraph.pregel._read import ChannelRead",
        "from langgraph.store.base import _ensure_refresh",
        "saver = config['__pregel_checkpointer']",
        "node._inject_tool_args(call, runtime, tool)",
        "super()._dump_blobs(values)",
    ],
)
def test_the_search_would_find(code):
    assert list(private_uses(ast.parse(code)))


def subclasses(kind):
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


def test_no_class_of_ours_overrides_what_is_private_in_langgraphs():
    for module in pkgutil.walk_packages(plan_execute.__path__, "plan_execute."):
        if module.name.split(".")[1] not in {*NOT_PRODUCT, "examples"}:
            importlib.import_module(module.name)
    ours = {
        kind
        for base in (BaseCheckpointSaver, BaseStore, CompiledStateGraph)
        for kind in subclasses(base)
        if kind.__module__.startswith("plan_execute.")
    }
    overridden = [
        f"{kind.__module__}.{kind.__name__}.{name}"
        for kind in ours
        for name in vars(kind)
        if is_private(name) and name not in OF_PYTHON
        if any(name in vars(base) for base in kind.__mro__ if base.__module__.startswith("langgraph."))
    ]
    assert len(ours) >= 8
    assert sorted(overridden) == []
