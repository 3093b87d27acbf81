"""The picture of the folders is drawn from the plan that the layout test holds."""

from tests.pages.folder_graph import FILE, levels, picture, places, reduced
from tests.test_layout import MAY_IMPORT


def test_the_picture_is_of_todays_plan():
    """`python -m tests.pages.folder_graph` draws it anew."""
    assert FILE.read_text(encoding="utf-8") == picture(MAY_IMPORT)


def test_arrows_that_follow_from_others_are_left_out():
    graph = {"zoo": set(), "a": {"zoo"}, "b": {"a", "zoo"}, "c": {"b", "zoo"}}
    assert reduced(graph) == {"zoo": set(), "a": {"zoo"}, "b": {"a"}, "c": {"b"}}
    assert levels(graph) == {"zoo": 0, "a": 1, "b": 2, "c": 3}


def test_no_two_boxes_stand_in_one_place():
    where = places(MAY_IMPORT)
    assert len({*where.values()}) == len(MAY_IMPORT)
    for folder, belows in MAY_IMPORT.items():
        assert all(where[folder][1] < where[below][1] for below in belows)
