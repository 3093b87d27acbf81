"""Which differences between two outputs count."""

import pytest

from tests.pages.same_output import same_output

LINE = (
    "1 runs: 0 done, 1 left, about 0 min on 1 thread (1 by a guess) and 2 MB\n"
    "  accuracy 45.80 ± 4.81 % over 20 test episodes, 4 updates, 2 + 0 s; a-5w1s-4967bf704293fc8a"
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("45.80", "45.40"),  # another machine's sums
        ("2 + 0 s", "31 + 4 s"),
        ("about 0 min", "about 12 min"),
        ("(1 by a guess)", "(1 by records of the same learner)"),
        ("4967bf704293fc8a", "0067bf704293fc8b"),
    ],
)
def test_what_machines_differ_in_does_not_count(old, new):
    assert same_output(LINE, LINE.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("45.80", "60.00"),
        ("20 test", "1000 test"),
        ("4 updates", "3 updates"),
        ("5w1s", "5w5s"),
        ("accuracy", "error"),
        ("2 MB", "9 MB"),
        (" ± 4.81", ""),
    ],
)
def test_what_a_command_says_counts(old, new):
    assert old in LINE
    assert not same_output(LINE, LINE.replace(old, new, 1))
