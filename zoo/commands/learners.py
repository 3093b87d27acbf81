"""The command ``zoo check``, and the table of learners that ``zoo list --table`` writes."""

import argparse
import inspect
import os
import re
import textwrap
from collections import Counter
from pathlib import Path

from tabulate import tabulate

from zoo.conformance import Maker, makers
from zoo.conformance.checks import same_predictions_again
from zoo.conformance.harness import CHANGE, DONE
from zoo.conformance.resuming import BATTERY
from zoo.errors import UsageError
from zoo.files import write_text
from zoo.learner import TRAITS, Learner
from zoo.registry import ALL, learner_of, learners
from zoo.runs.request import RunRequest
from zoo.runs.resolved import resolve_request
from zoo.runs.settings import SHARED_SETTING_NAMES, parse_values

TABLE_MARKS = ("<!-- learners: make readme -->", "<!-- end of learners -->")
WHERE_TRAITS_ARE = """\
A trait such as `transductive` is set in the class, `transductive = True`, or, where it follows from
a setting, in the constructor, `self.transductive = ...`; zoo/learner.py says what each means."""
VERDICTS = {"holds": "holds", "fails": "FAILS", "n/a": "n/a  "}


def check_command(options: argparse.Namespace) -> int:
    """``zoo check``: run the battery of checks on learners; returns 1 if one fails, else 0."""
    names = learners.names() if options.learners == [ALL] else options.learners
    broken = [name for name in names if not conforms(name)]
    if len(names) > 1:
        result = f"broken: {', '.join(broken)}" if broken else "all hold"
        print(f"{len(names)} learners, {result}")
    return int(bool(broken))


def conforms(name: str) -> bool:
    """Whether a learner keeps the contract; prints the result of every check.

    Raises:
        UsageError: there is no such learner, or it cannot be built like this.
    """
    key, cls, overrides = learner_of(name)
    settings = parse_values(cls, overrides, name)
    if shared := settings.keys() & SHARED_SETTING_NAMES:
        raise UsageError(
            f"{name}: {', '.join(sorted(shared))} is a setting of runs; a check sets its own"
        )
    Maker(key, settings).usable()
    configurations = list(makers(key, settings))
    print(f"{name}, as {', '.join(map(str, configurations))}:", flush=True)
    counts: Counter[str] = Counter()
    printed_errors: list[str] = []
    advice: list[str] = []
    for check in BATTERY:
        results = {str(make): check.verdict(make) for make in configurations}
        verdicts = [verdict for verdict, _ in results.values()]
        overall = next(word for word in ("fails", "holds", "n/a") if word in verdicts)
        counts[overall] += 1
        reason = f" ({next(iter(results.values()))[1]})" if overall == "n/a" else ""
        print(in_lines(f"  {VERDICTS[overall]} {check.title}{reason}"), flush=True)
        broken = {make: why for make, (verdict, why) in results.items() if verdict == "fails"}
        advice += print_failures(broken, printed_errors)
        if broken and check.run is same_predictions_again:
            print(in_lines("  The checks that follow compare predictions: not tried."), flush=True)
            break
    if any(f"`{trait} = " in change for change in advice for trait in TRAITS):
        print(WHERE_TRAITS_ARE)
    total = f"{counts['holds']} hold, {counts['fails']} fail, {counts['n/a']} do not apply"
    print(f"{name}: {total}")
    return not counts["fails"]


def print_failures(broken: dict[str, str], printed_errors: list[str]) -> list[str]:
    """Print why a check fails, and below it what to change.

    Args:
        broken: by each configuration that fails, why.
        printed_errors: errors that were printed before; how they came about is not printed again.
            The errors printed now are added to it.

    Returns:
        What to change, each piece of advice once, as several configurations often share it.
    """
    margin = " " * 8
    advice: list[str] = []
    for configuration, why in broken.items():
        finding, _, change = why.partition(CHANGE)
        error, circumstances, _ = finding.partition(DONE)
        if circumstances and error in printed_errors:
            print(in_lines(f"{margin}{configuration}: as above, {error}"), flush=True)
            continue
        print(in_lines(f"{margin}{configuration}: {finding}"), flush=True)
        if circumstances:
            printed_errors.append(error)
        if change and change not in advice:
            advice.append(change)
    for change in advice:
        print(in_lines(f"{margin}What to change: {change}"), flush=True)
    return advice


def in_lines(text: str) -> str:
    """A long message wrapped to lines of 100 characters; no word is divided."""
    return textwrap.fill(
        text, 100, subsequent_indent=" " * 10, break_long_words=False, break_on_hyphens=False
    )


def write_learner_table(kind: str, page: Path | None) -> int:
    """``zoo list --table``: print the table of learners as Markdown, or put it into a page.

    Raises:
        UsageError: `kind` is not learners, or the page has no marks for the table.
    """
    if kind != "learners":
        raise UsageError(f"list {kind}: only learners can be listed as a table")
    text = learner_table(page)
    if page is None:
        print(text)
        return 0
    try:
        before = page.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--into {page}: {error.strerror}") from None
    start, end = TABLE_MARKS
    if before.count(start) != 1 or end not in before.partition(start)[2]:
        raise UsageError(f"--into {page}: expected the lines {start} and {end}")
    head, _, rest = before.partition(start)
    write_text(page, f"{head}{start}\n{text}\n{end}{rest.partition(end)[2]}")
    return 0


def learner_table(page: Path | None = None) -> str:
    """A table of every learner: its family, traits, number of parameters, paper and lines of code.

    Args:
        page: the page that the table goes into. Links to our files are relative to it, or to the
            checkout if it is None.
    """
    heads = ["learner", "family", "traits", "parameters", "source", "lines"]
    rows = [learner_row(key, page) for key in learners.names()]
    align = ["left", "left", "left", "right", "left", "right"]
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True, colalign=align)


def learner_row(key: str, page: Path | None = None) -> list[str]:
    """A learner's row; traits and parameters are those of its mini-ImageNet configuration."""
    cls = learners.get(key)
    path = Path(inspect.getfile(cls))
    lines = len(path.read_text(encoding="utf-8").splitlines())
    is_ours = path.resolve().parent == learners.folder.resolve()
    place = f"baselines/{path.name}" if is_ours else path.as_posix()
    if is_ours and page is not None:
        root = learners.folder.resolve().parent
        place = Path(os.path.relpath(root / place, page.resolve().parent)).as_posix()
    traits, parameters = "–", "–"
    if (learner := for_miniimagenet(key)) is not None:
        words = [name.replace("_", " ") for name, holds in learner.traits().items() if holds]
        traits = ", ".join(words) or "–"
        parameters = f"{learner.parameter_count():,}"
    source = learners.entries[key].source
    if cited := re.fullmatch(r".*\((.+)\)\. (https://\S+)", source):
        source = f"[{cited[1]}]({cited[2]})"
    name = f"{cls.title} `{key}`"
    return [name, cls.family or "–", traits, parameters, source, f"[{lines}]({place})"]


def for_miniimagenet(key: str) -> Learner | None:
    """The learner as it runs on mini-ImageNet, 5-way 1-shot; None if it cannot."""
    request = RunRequest(key, "miniimagenet", way=5, shot=1, budget="paper")
    try:
        return resolve_request(request).build()[1]
    except UsageError:
        return None
