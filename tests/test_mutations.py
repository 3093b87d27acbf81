"""The small changes of `python -m tests.mutations`."""

import ast
from pathlib import Path

import pytest

from tests.mutations import PACKAGES, Finder, picked

ROOT = Path(__file__).parent.parent

CODE = '''
"""Not 1 and not a < b."""
from x import y

def f(a: "int | None" = 3, *, b=True) -> int:
    """Nor this 2."""
    if not a and b != 4:
        raise ValueError(f"{a + 1} is too few", 5)
    return a + "text" if b is None else [x - 6 for x in a
        if x < 7]
'''


@pytest.fixture(scope="module")
def found():
    finder = Finder(CODE)
    finder.visit(ast.parse(CODE))
    return finder.found


def test_code_is_changed_but_not_texts_hints_and_messages(found):
    assert sorted(what for *_, what in found) == sorted(
        [
            "3 -> 4", "True -> False", "condition negated", "and -> or", "not dropped", "!= -> ==",
            "4 -> 5", "condition negated", "is -> is not", "- -> +", "6 -> 7", "< -> <=", "7 -> 8",
        ]
    )  # fmt: skip


def test_each_change_is_code_again_and_another(found):
    whole = ast.dump(ast.parse(CODE))
    for line, lines, start, end, new, what in found:
        code = CODE.encode()
        changed = (code[:start] + new.encode() + code[end:]).decode()
        assert ast.dump(ast.parse(changed)) != whole, what
        assert line in lines and CODE.splitlines()[line - 1].strip()


def test_the_seed_picks_as_many_of_each_package():
    once, again, other = (picked(ROOT, 8, seed) for seed in (0, 0, 1))
    assert once == again != other
    assert [change.package for change in once] == [p for p in PACKAGES for _ in range(2)]
    assert all((ROOT / change.path).is_file() for change in once)
