"""Imports point one way, from room to room, and never in a circle, not even for types or within functions."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
NOT_PRODUCT = {"tests", "benchmarks", "docs", "build", "dist"}

ROOMS = (
    "langgraph_private",
    "state",
    "errors",
    "safety",
    "context",
    "tracing",
    "tools",
    "storage",
    "plan",
    "models",
    "spending",
    "events",
    "run",
    "people",
    "evaluation",
    "execution",
    "nodes",
    "graph",
    "threads",
    "report",
    "page",
    "examples",
    "cli",
    "__main__",
)
"""Rooms and the modules at the root, the lowest first: each imports from itself and from those before."""

RANK_OF = {room: rank for rank, room in enumerate(ROOMS)}


def product_files():
    for top in sorted(CHECKOUT.iterdir()):
        if top.name not in NOT_PRODUCT and not top.name.startswith(".") and top.suffix != ".egg-info":
            yield from sorted(top.rglob("*.py")) if top.is_dir() else [top] * (top.suffix == ".py")


def module_parts(path):
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


@cache
def imported_parts(path):
    """List what a file imports of ours, as parts below the package; imports within functions count."""
    return [*_imported_parts(path)]


def _imported_parts(path):
    package = module_parts(path) if path.name == "__init__.py" else module_parts(path)[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            yield from (tuple(name[1:]) for name in names if name[0] == "plan_execute")
        elif isinstance(node, ast.ImportFrom):
            named = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                base = (*package[: len(package) - node.level + 1], *named)
            elif named[:1] == ("plan_execute",):
                base = named[1:]
            else:
                continue
            # `from . import x` names the module only in what it imports
            yield from ((*base, alias.name) for alias in node.names)


def room_imports():
    """Give (file, importing parts, imported parts) for every import of ours, by a room or a root module."""
    for path in product_files():
        parts = module_parts(path)
        if not parts:
            continue  # the root's __init__ only names the homes of the public names
        for imported in imported_parts(path):
            if imported:
                yield path.relative_to(CHECKOUT), parts, imported


def modules():
    return {module_parts(path): path for path in product_files()}


def module_imports():
    """Map each module of ours to those that it imports: at its top, within functions, and for types."""
    known = modules()
    needs: dict[tuple[str, ...], set[tuple[str, ...]]] = {module: set() for module in known}
    for module, path in known.items():
        for imported in imported_parts(path):
            # `from .x import name` imports the module x.name where there is one, else the module x
            target = imported if imported in known else imported[:-1]
            if target in known and target:
                needs[module].add(target)
    return needs


def circle_in(needs):
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_every_room_and_root_module_has_a_rank():
    rooms = {module_parts(path)[0] for path in product_files() if module_parts(path)}
    assert rooms == set(ROOMS)


def test_imports_point_to_the_same_room_or_a_lower_one():
    upwards = [
        f"{path} imports {'.'.join(imported)}"
        for path, parts, imported in room_imports()
        if RANK_OF.get(imported[0], -1) > RANK_OF[parts[0]]
    ]
    assert not upwards, "\n".join(upwards)


def test_no_module_imports_itself_over_others():
    assert circle_in(module_imports()) is None


def test_the_search_would_find_a_circle():
    needs = module_imports()
    needs["errors",].add(("cli", "app"))
    assert circle_in(needs)


@pytest.mark.parametrize("module", ["state", "errors"])
def test_the_nouns_and_the_errors_import_nothing_of_ours(module):
    assert list(imported_parts(CHECKOUT / f"{module}.py")) == []


def test_nodes_do_not_import_each_other():
    crossing = [
        f"{path} imports {'.'.join(imported)}"
        for path, parts, imported in room_imports()
        if parts[0] == "nodes" and imported[0] == "nodes" and imported[:2] != parts[:2]
    ]
    assert not crossing, "\n".join(crossing)


def test_only_context_reads_environment_variables():
    readers = []
    for path in product_files():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        reads = [
            n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in ("environ", "getenv")
        ]
        if reads and path.name != "context.py" and module_parts(path)[0] != "examples":
            readers.append(str(path.relative_to(CHECKOUT)))
    assert not readers, f"read the environment in context.py instead of {readers}"
