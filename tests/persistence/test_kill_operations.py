"""Whatever a person does to a thread whose process was killed, no write is repeated unasked or forgotten.

CI plays a sample of each kind of run, drawn with a seed; ``-m slow`` and
``benchmarks/kill_sweep.py --operations`` play every operation over every kind.
"""

import random

import crash_child
import operations
import pytest
from counted import MODES
from kill_points import run_whole
from operations import OPERATIONS, UNITS, draw_operations, operate
from scenarios import SCENARIOS

KINDS = list(UNITS)


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    with crash_child.serving(tmp_path_factory.mktemp("answers"), operations.__file__) as started:
        yield started


def survive(children, folder, kind, mode, firsts):
    (folder / "whole").mkdir()
    whole = run_whole(children, folder / "whole", mode, SCENARIOS[f"operated_{kind}"])
    dice, broken = random.Random(f"{kind} {mode}"), {}
    for number, first in enumerate(firsts):
        place = folder / str(number)
        place.mkdir()
        faults, following = draw_operations(whole, first, dice.choice([1, 2]), dice)
        trial = operate(children, place, whole, faults, following, f"{kind} {number}")
        if trial.broken:
            broken[f"{faults} {following}"] = trial.broken
    assert broken == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_and_an_operation_repeat_no_write_unasked_and_forget_none(children, tmp_path, kind):
    # The kinds share the operations out between them, so that each is played.
    every, place = list(OPERATIONS), KINDS.index(kind)
    survive(children, tmp_path, kind, "local", [every[(2 * place + more) % len(every)] for more in range(2)])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_operation_after_kills_repeats_no_write_unasked(children, tmp_path, kind, mode):
    survive(children, tmp_path, kind, mode, [*OPERATIONS] * 3)
