"""Figures of runs: what is drawn, and that nothing lies over or outside."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from zoo.reports.estimates import columns_of
from zoo.reports.figures.comparison import accuracy_figure, cost_figure, curves_figure
from zoo.reports.figures.style import COLUMN_WIDTH, style
from zoo.reports.records import FIELDS

NAMES = [f"learner {number}" for number in range(16)]
LONG = "Prototypical Networks for everything [updates=7500,validations=15,temperature=0.1]"


def runs(labels, **changes):
    """A frame as the one from `records.load`."""
    each = {
        "status": "done", "validation": [[100, 0.5], [200, 0.75]], "updates": 200,
        "tasks_seen": 800, "update_seconds": 10.0, "train_seconds": 12.0, "device": "cpu",
        "device_name": "a processor", "threads": 2, "accuracy": 0.9, "accuracy_ci95": 0.01,
    } | changes  # fmt: skip
    frame = pd.DataFrame([each | {"label": label} for label in labels])
    return frame.reindex(columns=[*FIELDS, "accuracy", "accuracy_ci95", "label"])


def found(labels, columns=("5-way 1-shot",), **changes):
    each = {"value": 0.9, "value_low": 0.89, "value_high": 0.91}
    each |= {"published": 0.95, "published_ci95": np.nan} | changes
    lines = [{"label": label, "column": column} for column in columns for label in labels]
    columns = ["label", "column", *columns_of("value"), "published", "published_ci95"]
    return pd.DataFrame([line | each for line in lines], columns=columns)


def check(figure):
    """As wide as a column; all words within it, of 7 points or more, and none over another."""
    figure.set_dpi(100)  # sooner drawn
    renderer, drawn = FigureCanvasAgg(figure).get_renderer(), []
    draw = Text.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", lambda text, to: (drawn.append(text), draw(text, to)))
        figure.draw(renderer)
    assert figure.get_figwidth() == COLUMN_WIDTH
    drawn = [text for text in dict.fromkeys(drawn) if text.get_text() and text.get_visible()]
    words = [(text, text.get_window_extent(renderer)) for text in drawn]
    assert words
    for text, box in words:
        assert text.get_fontsize() >= 7, text
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, text
        assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, text
    for place, (text, box) in enumerate(words):
        for other, another in words[:place]:
            assert not overlap(box, another), (text, other)
    for axes in figure.axes:
        for legend in figure.legends:
            assert not overlap(axes.get_window_extent(), legend.get_window_extent(renderer))
    return [text.get_text() for text, _ in words]


def overlap(a, b):
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1


@pytest.mark.parametrize("labels", [NAMES[:1], NAMES, [*NAMES[:14], LONG, "SNAIL"], [LONG]])
def test_nothing_lies_over_or_outside(labels):
    title = "Omniglot, 5-way 1-shot, terms paper, budget quick" if LONG in labels else ""
    words = check(curves_figure(runs(labels), title=title))
    assert {name.replace(",", ", ") for name in labels} <= {w.replace("\n", " ") for w in words}
    check(cost_figure(runs(labels), title=title))
    for columns in (["5-way 1-shot"], ["1-shot", "5-shot"], ["1", "2", "3"]):
        words = check(accuracy_figure(found(labels, columns), title=title))
        assert set(columns) <= set(words)


@pytest.mark.parametrize("draw", [curves_figure, cost_figure], ids=["curves", "seconds"])
def test_nothing_measured_is_said(draw):
    for none in (runs([]), runs(["a"], validation=None, accuracy=np.nan, status="failed")):
        assert check(draw(none)) == ["nothing was measured"]
    assert check(accuracy_figure(found([]))) == ["nothing was measured"]


def test_accuracies_stand_at_their_rows_with_their_intervals():
    frame = found(["a", "b", "c"])
    frame.loc[1, [*columns_of("value")]] = np.nan  # failed
    frame.loc[2, ["published"]] = np.nan
    frame.loc[2, "value_low"] = 0.86  # longer below than above
    axes = accuracy_figure(frame).axes[0]
    ours, theirs = axes.containers
    assert ours[0].get_xdata() == pytest.approx([90, np.nan, 90], nan_ok=True)
    assert theirs[0].get_xdata() == pytest.approx([95, 95, np.nan], nan_ok=True)
    segments = ours[2][0].get_segments()
    assert segments[0][:, 0] == pytest.approx([89, 91])
    assert segments[2][:, 0] == pytest.approx([86, 91])
    assert theirs[0].get_markerfacecolor() == "white"
    rows = axes.get_yticks()
    assert np.abs(ours[0].get_ydata() - rows).max() < 0.3 and len(rows) == 3
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is above


def test_without_published_numbers_nothing_speaks_of_them():
    figure = accuracy_figure(found(["a"], published=np.nan))
    assert not figure.legends
    assert figure.axes[0].containers[0][0].get_ydata() == figure.axes[0].get_yticks()


def test_two_lines_of_one_learner_share_a_row():
    frame = found(["a", "a", "b"])
    frame[[*columns_of("value")]] = np.array([[0.5, 0.6, 0.7]] * 3).T
    axes = accuracy_figure(frame).axes[0]
    drawn = axes.containers[0][0]
    assert len(axes.get_yticks()) == 2 and drawn.get_ydata()[0] == drawn.get_ydata()[1]
    assert drawn.get_xdata() == pytest.approx([50, 60, 70])


def test_curves_are_in_updates_or_tasks():
    frame = runs(["a", "b"])
    frame.at[1, "validation"] = [[100, 0.8], [150, float("nan")], [200, 0.9]]
    for against, x in (("updates", [100, 200]), ("tasks", [400, 800])):
        figure = curves_figure(frame, against=against)
        first, second = figure.axes[0].lines
        assert first.get_xdata().tolist() == second.get_xdata().tolist() == x
        assert first.get_ydata() == pytest.approx([50, 75])
        assert second.get_ydata() == pytest.approx([80, 90])
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        assert names == ["b", "a"]  # as the lines end


def test_a_failed_run_ends_in_a_cross():
    frame = runs(["a", "b"])
    frame.loc[0, "status"] = "failed"
    figure = curves_figure(frame)
    _, cross, _ = figure.axes[0].lines
    assert cross.get_marker() == "x" and cross.get_xydata().tolist() == [[200, 75]]
    assert "failed here" in check(figure)


def test_runs_of_a_label_look_alike_and_are_named_once():
    figure = curves_figure(runs(["a", "b", "a"]))
    first, again, other = figure.axes[0].lines
    assert first.get_color() == again.get_color() != other.get_color()
    assert len(figure.legends[0].get_texts()) == 2


def test_more_than_five_learners_have_a_panel_each():
    labels = NAMES[:7]
    figure = curves_figure(runs(labels))
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == labels and not figure.legends
    for axes in panels:
        greys = [line.get_color() == "0.85" for line in axes.lines]
        assert greys == [True] * 6 + [False]  # its own lies above all others
    numbered = [any(t.get_visible() and t.get_text() for t in axes.get_xticklabels())
                for axes in panels]  # fmt: skip
    assert numbered == [False] * 4 + [True] * 3  # below the lowest of each column
    words = check(figure)
    assert "updates" in words and "validation: accuracy in %" in words
    check(curves_figure(runs([*NAMES[:7], "SNAIL [updates=5400,validations=15]"])))


def test_sixteen_styles_differ():
    looks = [style(number) for number in range(104)]
    assert len({(look.color, look.marker) for look in looks}) == 104
    assert len({(look.color, look.linestyle) for look in looks[:32]}) == 32


def test_errors_are_drawn_by_magnitude():
    frame = runs(["a"], validation=[[1, 4.0], [2, 0.01]]).assign(mse=0.02, mse_ci95=0.001)
    for draw in (curves_figure, cost_figure):
        figure = draw(frame, metric="mse")
        assert figure.axes[0].get_yscale() == "log"
        assert "mean squared error" in figure.axes[0].get_ylabel()
        check(figure)


def test_curves_of_errors_are_medians_where_all_runs_recorded_them():
    curve = [[1, 4.0], [2, 3.0], [3, 2.0]]
    frame = runs(["a", "b"], validation=curve, validation_median=[0.4, None, 0.2])
    axes = curves_figure(frame, metric="mse").axes[0]
    assert axes.get_ylabel() == "validation: median squared error"
    assert axes.lines[0].get_xydata().tolist() == [[1, 0.4], [3, 0.2]]
    for none in ([None] * 3, None):
        frame.at[1, "validation_median"] = none
        axes = curves_figure(frame, metric="mse").axes[0]
        assert axes.get_ylabel() == "validation: mean squared error"
        assert axes.lines[0].get_ydata().tolist() == axes.lines[1].get_ydata().tolist() == [4, 3, 2]


def test_accuracy_at_an_instance_is_drawn_too():
    frame = runs(["a", "b"]).assign(**{"accuracy@instance2": 0.8, "accuracy@instance2_ci95": 0.01})
    axes = cost_figure(frame, metric="accuracy@instance2").axes[0]
    assert [c[0].get_ydata()[0] for c in axes.containers] == [80, 80]
    assert axes.get_ylabel() == "test: accuracy in %"
    numbers = found(["a", "b"], ["5-way instance 2"])
    axes = accuracy_figure(numbers, metric="accuracy@instance2").axes[0]
    assert axes.get_xlabel() == "accuracy in %"


def test_a_row_looks_alike_in_all_figures_of_a_page():
    """Whether or not it, or a row above it, has a curve or a test."""
    page = NAMES[:4]
    without = runs(page[:1], validation=None, accuracy=np.nan, status="failed")
    frame = pd.concat([without, runs(page[2:0:-1])], ignore_index=True)
    expected = {label: style(number) for number, label in enumerate(page)}
    for draw in (curves_figure, cost_figure):
        figure = draw(frame, labels=page)
        (legend,) = figure.legends
        handles = zip(legend.get_lines(), legend.get_texts(), strict=True)
        drawn = {text.get_text(): line for line, text in handles}
        assert drawn.keys() == set(page[1:3])
        for label, line in drawn.items():
            assert (line.get_color(), line.get_marker()) == expected[label][:2]
    many = curves_figure(runs(NAMES[:7]), labels=NAMES[::-1])
    own = [axes.lines[-1].get_color() for axes in many.axes if axes.get_visible()]
    titles = [axes.get_title() for axes in many.axes if axes.get_visible()]
    assert titles == NAMES[6::-1]  # in the order of the page
    assert own == [style(NAMES[::-1].index(label)).color for label in titles]


def test_seconds_are_all_of_one_kind():
    """The CPU's, else the clock's of updates, else of training in whole; 0 has its place."""
    frame = runs(["a", "b"]).assign(update_cpu_seconds=8.0)
    figure = cost_figure(frame)
    assert [c[0].get_xdata()[0] for c in figure.axes[0].containers] == [8, 8]
    label = figure.axes[0].get_xlabel()
    assert label == "CPU seconds of updates\non a processor, 2 threads"
    frame.loc[0, "update_cpu_seconds"] = np.nan
    figure = cost_figure(frame)
    assert [c[0].get_xdata()[0] for c in figure.axes[0].containers] == [10, 10]
    label = figure.axes[0].get_xlabel()
    assert label.replace("\n", " ") == (
        "seconds of updates by the clock, other work of the machine included "
        "on a processor, 2 threads"
    )
    check(figure)
    frame.loc[0, "update_seconds"] = np.nan
    frame.loc[1, ["threads", "train_seconds"]] = [1, 0]
    figure = cost_figure(frame)
    assert sorted(c[0].get_xdata()[0] for c in figure.axes[0].containers) == [0, 12]
    label = figure.axes[0].get_xlabel()
    assert label.replace("\n", " ") == (
        "seconds of training by the clock, validation and other work included "
        "on 2 different machines or numbers of threads"
    )
    assert figure.axes[0].get_xscale() == "symlog"
    check(figure)


def test_seconds_of_stages_count_where_all_runs_know_them():
    def drawn(*stages):
        frame = runs(["a", "b"]).assign(update_cpu_seconds=8.0, stages=stages)
        axes = cost_figure(frame).axes[0]
        seconds = sorted(float(c[0].get_xdata()[0]) for c in axes.containers)
        return seconds, axes.get_xlabel().replace("\n", " ").removesuffix(
            " on a processor, 2 threads"
        )

    known = [{"name": "pretrain", "hash": "1", "seconds": 5.0, "cpu_seconds": 4.0}]
    old = [{"name": "pretrain", "hash": "1", "seconds": 5.0}]
    assert drawn(known, None) == ([8, 12], "CPU seconds of updates and of the stages before")
    assert drawn(known, old) == ([8, 8], "CPU seconds of updates, without the stages before")
    assert drawn(None, []) == ([8, 8], "CPU seconds of updates")


def test_a_run_without_seconds_or_interval():
    frame = runs(["a", "b"], accuracy_ci95=np.nan)
    frame.loc[0, ["update_seconds", "train_seconds"]] = np.nan
    figure = cost_figure(frame)
    assert len(figure.axes[0].containers) == 1
    check(figure)
    bare = runs(["a"], update_seconds=0.0, device_name=None, device=None, threads=None)
    words = check(cost_figure(bare))
    assert any(word.endswith("included\non a machine not known") for word in words)


def test_a_run_whose_tasks_are_not_known_has_no_curve_over_tasks():
    frame = runs(["a", "b"])
    frame.loc[0, "tasks_seen"] = np.nan
    figure = curves_figure(frame, against="tasks")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["b"]
    check(figure)
