"""Where boxes and lines go: nothing overlaps, all comes after what it needs, lines reach their ends."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plan_execute.report.layout import Box, _apart, _without_implied, draw_layers

BOX = Box(width=100, height=30, beside=10, between=40)


@st.composite
def dags(draw, most=30):
    """Lists of what each box needs, always boxes before it."""
    count = draw(st.integers(0, most))
    return [sorted(draw(st.sets(st.integers(0, v - 1), max_size=4))) if v else [] for v in range(count)]


def overlap(one, other):
    return all(abs(a - b) < size for a, b, size in zip(one, other, (BOX.width, BOX.height), strict=True))


@settings(max_examples=30, deadline=None)
@given(dags())
def test_no_two_boxes_overlap_and_all_are_inside_the_drawing(needs):
    drawing = draw_layers(needs, BOX)
    assert not any(overlap(one, other) for one, other in combinations(drawing.places, 2))
    for x, y in drawing.places:
        assert 0 <= x <= drawing.width - BOX.width
        assert 0 <= y <= drawing.height - BOX.height


@settings(max_examples=30, deadline=None)
@given(dags())
def test_a_box_stands_after_what_it_needs_and_a_line_leads_from_border_to_border(needs):
    drawing = draw_layers(needs, BOX)
    along = 1 if drawing.downwards else 0
    depth = BOX.height if drawing.downwards else BOX.width
    assert set(drawing.links) == {(u, v) for v, sources in enumerate(needs) for u in sources}
    for (u, v), line in drawing.links.items():
        assert drawing.places[u][along] + depth < drawing.places[v][along]
        assert line[0][along] == pytest.approx(drawing.places[u][along] + depth, abs=0.2)
        assert line[-1][along] == pytest.approx(drawing.places[v][along], abs=0.2)
        assert all(before[along] <= after[along] for before, after in pairwise(line))
        assert all(0 <= x <= drawing.width and 0 <= y <= drawing.height for x, y in line)


@settings(max_examples=30, deadline=None)
@given(dags())
def test_no_line_goes_through_a_box(needs):
    drawing = draw_layers(needs, BOX)
    for line in drawing.links.values():
        for (x, y), (to_x, to_y) in pairwise(line):
            straight = x == to_x if drawing.downwards else y == to_y
            if straight:  # the others run between two layers
                middle = ((x + to_x) / 2, (y + to_y) / 2)
                assert not any(
                    px + 1 < middle[0] < px + BOX.width - 1 and py + 1 < middle[1] < py + BOX.height - 1
                    for px, py in drawing.places
                )


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(0, 20)), max_size=20))
def test_places_keep_their_order_and_distance_and_a_wish_that_fits_is_granted(wishes):
    wanted, gaps = [wish for wish, _ in wishes], [gap for _, gap in wishes]
    steps = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    places = _apart(wanted, steps, [1.0] * len(wanted))
    for (place, step), (after, later) in pairwise(zip(places, steps, strict=True)):
        assert after - place >= later - step - 1e-6
    if all(b - a >= t - s for (a, s), (b, t) in pairwise(zip(wanted, steps, strict=True))):
        assert places == pytest.approx(wanted, abs=1e-6)


@given(dags(most=14))
def test_leaving_out_implied_lines_changes_nothing_about_what_comes_after_what(needs):
    def above(edges, v):
        direct = {u for u, w in edges if w == v}
        return direct | {x for u in direct for x in above(edges, u)}

    every = {(u, v) for v, sources in enumerate(needs) for u in sources}
    kept = _without_implied(needs)
    assert kept <= every
    assert all(above(kept, v) == above(every, v) for v in range(len(needs)))


def test_lines_that_nobody_could_follow_are_left_out_and_counted():
    drawing = draw_layers([list(range(v)) for v in range(100)], BOX)
    assert len(drawing.links) == 99
    assert drawing.left_out == 100 * 99 // 2 - 99


def test_a_few_steps_side_by_side_go_downwards_and_many_from_left_to_right():
    assert draw_layers([[], [], [0, 1]], BOX).downwards
    assert not draw_layers([[] for _ in range(9)], BOX).downwards


def test_lines_are_not_crossed_where_that_can_be_helped():
    drawing = draw_layers([[], [], [], [2], [1], [0]], BOX)
    order = [drawing.places[v][0] for v in range(6)]
    assert sorted(range(3), key=lambda v: order[v]) == [
        5 - v for v in sorted((3, 4, 5), key=lambda v: order[v])
    ]
