"""Imports point one way: DESIGN's order of the rooms, with the modules at the root in between."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
NOT_PRODUCT = {"tests", "benchmarks", "docs", "build", "dist"}

RANKS: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            {"state", "errors"},
            {"safety"},
            {"notations", "references", "redaction", "renaming", "durations", "safe_markdown"},
            {"context"},
            {"tracing"},
            {"prompts", "models", "tools", "storage"},
            {"plan_types"},
            {"budget", "estimates", "events", "questions", "plan_rules", "plan_text"},
            {"run"},
            {"approvals", "recall"},
            {"evaluation"},
            {"execution"},
            {"nodes"},
            {"graph"},
            {"report"},
            {"cli", "examples"},
        ),
    )
)
"""Rooms and root modules, the lowest first: each may import from its own rank and from those before."""

RANK_OF = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}


def product_files():
    for path in sorted(CHECKOUT.rglob("*.py")):
        first = path.relative_to(CHECKOUT).parts[0]
        if first not in NOT_PRODUCT and not first.startswith(".") and not first.endswith(".egg-info"):
            yield path


def module_parts(path):
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported_parts(path):
    """Give what a file imports of ours, as parts below the package; imports within functions count."""
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


def test_every_room_and_root_module_has_a_rank():
    rooms = {module_parts(path)[0] for path in product_files() if module_parts(path)}
    assert rooms <= set(RANK_OF), f"give these a rank: {sorted(rooms - set(RANK_OF))}"


def test_imports_point_to_the_same_rank_or_a_lower_one():
    upwards = [
        f"{path} imports {'.'.join(imported)}"
        for path, parts, imported in room_imports()
        if RANK_OF.get(imported[0], -1) > RANK_OF[parts[0]]
    ]
    assert not upwards, "\n".join(upwards)


def test_every_import_of_ours_names_a_known_room():
    unknown = [
        f"{path}: {'.'.join(i)}" for path, _, i in room_imports() if i[0] not in RANK_OF and len(i) > 1
    ]
    assert not unknown, "\n".join(unknown)


def test_rooms_do_not_import_each_other_in_a_circle():
    needs: dict[str, set[str]] = {}
    for _, parts, imported in room_imports():
        if imported[0] in RANK_OF and imported[0] != parts[0]:
            needs.setdefault(parts[0], set()).add(imported[0])
    assert list(TopologicalSorter(needs).static_order())


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
