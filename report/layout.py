"""Where the boxes and lines of a DAG go: a layered drawing, after Sugiyama.

There is no small, living library for this in pure Python (grandalf's last release is of 2023, and it
orders by crossings alone), and a report must not need a Graphviz. Boxes stand in layers, each after what
it depends on; the order within the layers is chosen for few crossings (barycentres), and the places for
straight lines (isotonic regression). The lines of one box to later layers share a trunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Box", "Drawing", "draw_layers"]

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """The size of a box, and the room around it."""

    width: float
    height: float
    beside: float
    between: float
    """Between two layers, where the lines are."""


@dataclass
class Drawing:
    """Where everything is.

    Attributes:
        places: The left upper corner of each box.
        links: For each (from, to) the points of its line, from border to border.
        width: Of the whole drawing.
        height: Of the whole drawing.
        downwards: Whether the layers are rows; else they are columns, from left to right.
        left_out: Lines that are not drawn because others imply them.
    """

    places: list[Point]
    links: dict[tuple[int, int], list[Point]]
    width: float
    height: float
    downwards: bool
    left_out: int = 0


_TRUNK = 14.0
"""Room that a line takes in a layer that it only passes."""
_MARGIN = 12.0
_MANY_LINES = 3000
"""With more lines than this, those that others imply are left out: nobody could follow them."""
_ROWS_UP_TO = 5
"""Boxes in the largest layer up to which layers are rows, so that the drawing fits a page's width."""


def draw_layers(needs: Sequence[Sequence[int]], box: Box, rows: Box | None = None) -> Drawing:
    """Place the boxes of an acyclic graph.

    Args:
        needs: For each box the boxes it depends on; each comes after them in the sequence.
        box: The size of a box.
        rows: Another size, where layers are rows.
    """
    edges = {(u, v) for v, sources in enumerate(needs) for u in sources}
    drawn = _without_implied(needs) if len(edges) > _MANY_LINES else edges
    layers = _Layers.of(len(needs), drawn)
    downwards = max(layers.boxes_in_layers(), default=0) <= _ROWS_UP_TO
    box = rows or box if downwards else box
    layers.order()
    breadth = box.width if downwards else box.height
    at = layers.place(breadth, box.beside)
    drawing = _Pen(box, downwards, layers, at).draw(len(needs), drawn)
    drawing.left_out = len(edges) - len(drawn)
    return drawing


def _without_implied(needs: Sequence[Sequence[int]]) -> set[tuple[int, int]]:
    """Leave out the edges that follow from others (transitive reduction, with sets as bits)."""
    above: list[int] = []
    kept: set[tuple[int, int]] = set()
    for v, sources in enumerate(needs):
        reached = 0
        for u in sorted(set(sources), reverse=True):
            if not reached >> u & 1:
                kept.add((u, v))
                reached |= above[u] | 1 << u
        above.append(reached)
    return kept


# --- layers ------------------------------------------------------------------------------


@dataclass
class _Layers:
    """Boxes, and trunks of lines where they pass a layer, in their order; both are numbered."""

    layer_of: list[int]
    rows: list[list[int]]
    count: int
    """Numbers below this are boxes, the others are trunks."""
    before: dict[int, list[int]] = field(default_factory=dict)
    after: dict[int, list[int]] = field(default_factory=dict)
    trunks: dict[tuple[int, int], int] = field(default_factory=dict)
    """The trunk of a box in a layer."""

    @classmethod
    def of(cls, count: int, edges: set[tuple[int, int]]) -> _Layers:
        layer_of = _layer_of_each(count, edges)
        layers = cls(layer_of, [[] for _ in range(max(layer_of, default=-1) + 1)], count)
        for v in range(count):
            layers.rows[layer_of[v]].append(v)
        last: dict[int, int] = {}
        for u, v in edges:
            last[u] = max(last.get(u, 0), layer_of[v])
        for u in sorted(last):
            layers._grow_trunk(u, last[u])
        for u, v in sorted(edges):
            layers._join(layers.trunks.get((u, layer_of[v] - 1), u), v)
        return layers

    def boxes_in_layers(self) -> list[int]:
        return [sum(item < self.count for item in row) for row in self.rows]

    def _grow_trunk(self, u: int, last: int) -> None:
        """Let the lines of a box pass the layers up to the one before its last target's."""
        below = u
        for layer in range(self.layer_of[u] + 1, last):
            item = self.count + len(self.trunks)
            self.trunks[u, layer] = item
            self.rows[layer].append(item)
            self._join(below, item)
            below = item

    def _join(self, upper: int, lower: int) -> None:
        self.after.setdefault(upper, []).append(lower)
        self.before.setdefault(lower, []).append(upper)

    # --- order ---------------------------------------------------------------------------

    def order(self) -> None:
        """Order each layer for few crossings: sweep down and up by barycentres, keep the best."""
        items = self.count + len(self.trunks)
        best, fewest = [list(row) for row in self.rows], self._crossings()
        for sweep in range(16 if items < 600 else 6):
            if not fewest:
                break
            self._sweep(downwards=sweep % 2 == 0)
            if (crossings := self._crossings()) < fewest:
                best, fewest = [list(row) for row in self.rows], crossings
        self.rows = best

    def _sweep(self, *, downwards: bool) -> None:
        neighbours = self.before if downwards else self.after
        place: dict[int, float] = {}
        for row in self.rows if downwards else reversed(self.rows):
            for at, item in enumerate(row):
                place[item] = _mean([place[n] for n in neighbours.get(item, ())], at)
            row.sort(key=place.__getitem__)
            for at, item in enumerate(row):
                place[item] = at

    def _crossings(self) -> int:
        total = 0
        for row, below in zip(self.rows, self.rows[1:], strict=False):
            place = {item: at for at, item in enumerate(below)}
            ends = [at for item in row for at in sorted(place[n] for n in self.after.get(item, ()))]
            total += _inversions(ends, len(below))
        return total

    # --- places --------------------------------------------------------------------------

    def place(self, breadth: float, beside: float) -> dict[int, float]:
        """Give each item its centre across the layers, near to its neighbours and apart from the next."""
        at: dict[int, float] = {}
        for row in self.rows:
            at |= dict(zip(row, self._steps(row, breadth, beside), strict=True))
        for downwards in (True, False, True, False, True):
            for row in self.rows if downwards else reversed(self.rows):
                wanted = [self._wanted(item, at, downwards=downwards) for item in row]
                weights = [1.0 if item < self.count else 3.0 for item in row]
                places = _apart(wanted, self._steps(row, breadth, beside), weights)
                at |= dict(zip(row, places, strict=True))
        return at

    def _wanted(self, item: int, at: Mapping[int, float], *, downwards: bool) -> float:
        near = (self.before if downwards else self.after).get(item)
        return _mean([at[n] for n in near], 0.0) if near else at[item]

    def _steps(self, row: Sequence[int], breadth: float, beside: float) -> list[float]:
        """Give the least centre of each item of a layer, when the first one's is 0."""
        half = [(breadth if item < self.count else _TRUNK) / 2 for item in row]
        centres = [0.0] * len(row)
        for n in range(1, len(row)):
            centres[n] = centres[n - 1] + half[n - 1] + half[n] + beside
        return centres


def _layer_of_each(count: int, edges: set[tuple[int, int]]) -> list[int]:
    """Put each box into the first layer after what it needs that has room (after Coffman and Graham)."""
    sources: list[list[int]] = [[] for _ in range(count)]
    natural, remaining = [0] * count, [0] * count
    for u, v in sorted(edges, key=lambda edge: edge[1]):
        sources[v].append(u)
        natural[v] = max(natural[v], natural[u] + 1)
    for v in range(count - 1, -1, -1):
        for u in sources[v]:
            remaining[u] = max(remaining[u], remaining[v] + 1)
    most = max(24, round(1.5 * count**0.5))
    layer = [0] * count
    filled: dict[int, int] = {}
    first_open = 0
    for v in sorted(range(count), key=lambda v: (natural[v], -remaining[v], v)):
        layer[v] = max((layer[u] + 1 for u in sources[v]), default=first_open)
        while filled.get(layer[v], 0) >= most:
            layer[v] += 1
        filled[layer[v]] = filled.get(layer[v], 0) + 1
        while filled.get(first_open, 0) >= most:
            first_open += 1
    return layer


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _inversions(ends: Sequence[int], size: int) -> int:
    """Count the pairs that stand in the wrong order, with a Fenwick tree."""
    tree, total = [0] * (size + 1), 0
    for seen, end in enumerate(ends):
        at, not_greater = end + 1, 0
        while at:
            not_greater += tree[at]
            at &= at - 1
        total += seen - not_greater
        at = end + 1
        while at <= size:
            tree[at] += 1
            at += at & -at
    return total


def _apart(wanted: Sequence[float], steps: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the places nearest to those wanted (least squares) that keep order and distance.

    Without the steps it is isotonic regression, by pooling adjacent violators.
    """
    pools: list[tuple[float, float, int]] = []
    for want, step, weight in zip(wanted, steps, weights, strict=True):
        pools.append((want - step, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (left, heavy, some), (right, light, more) = pools[-2:]
            pools[-2:] = [((left * heavy + right * light) / (heavy + light), heavy + light, some + more)]
    places = [place for place, _, size in pools for _ in range(size)]
    return [place + step for place, step in zip(places, steps, strict=True)]


# --- drawing -----------------------------------------------------------------------------


@dataclass
class _Pen:
    """Turns layers and places into points, in rows or in columns."""

    box: Box
    downwards: bool
    layers: _Layers
    at: Mapping[int, float]

    def draw(self, count: int, edges: set[tuple[int, int]]) -> Drawing:
        self._origin = min((self.at[v] - self._breadth / 2 for v in self.at), default=0.0) - _MARGIN
        places = [self._corner(v) for v in range(count)]
        links = {edge: self._line(*edge) for edge in sorted(edges)}
        points = [(x + self.box.width, y + self.box.height) for x, y in places]
        points += [point for line in links.values() for point in line]
        width = max((x for x, _ in points), default=0.0) + _MARGIN
        height = max((y for _, y in points), default=0.0) + _MARGIN
        return Drawing(places, links, width, height, self.downwards)

    @property
    def _breadth(self) -> float:
        return self.box.width if self.downwards else self.box.height

    @property
    def _depth(self) -> float:
        return self.box.height if self.downwards else self.box.width

    def _point(self, across: float, along: float) -> Point:
        x, y = round(across - self._origin, 1), round(along + _MARGIN, 1)
        return (x, y) if self.downwards else (y, x)

    def _along(self, layer: int) -> float:
        return layer * (self._depth + self.box.between)

    def _corner(self, v: int) -> Point:
        return self._point(self.at[v] - self._breadth / 2, self._along(self.layers.layer_of[v]))

    def _line(self, u: int, v: int) -> list[Point]:
        """Go from the far border of ``u`` along its trunk to the near border of ``v``."""
        first, last = self.layers.layer_of[u], self.layers.layer_of[v]
        points = [self._point(self.at[u], self._along(first) + self._depth)]
        for layer in range(first + 1, last):
            across = self.at[self.layers.trunks[u, layer]]
            points += [self._point(across, self._along(layer) + end) for end in (0.0, self._depth)]
        return [*points, self._point(self.at[v], self._along(last))]
