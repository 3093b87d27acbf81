"""The tables in Markdown, made from results files alone: `python -m tests.bench.table FILE...`.

With ``--summary`` before the files, the one table that docs/speed.md has of each.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

Results = dict[str, Any]
QUIET = 0.2  # cores that others may take during a sample that counts
TOLERANCE = 1e-10
PACKAGES = {"jax_": "jax", "plain": "torch"}  # elsewhere the contestant's own name
PEERS = "results/bench/peers.json"  # the file that the table of docs/speed.md is made from
WORK = {
    "second": "Second order, Conv4-{}: the meta-gradient of {tasks} tasks, {steps} inner steps",
    "first": "First order, Conv4-{}: the meta-gradient of {tasks} tasks, {steps} inner steps",
    "test": "Test, Conv4-{}: one task, {test_steps} inner steps and its queries",
}


def verdict(entry: dict[str, Any], order: str) -> str:
    """What the check against the plain loop found, in words."""
    check = entry["checks"][order]
    if "failed" in check:
        return f"did not run: {check['failed']}"
    if check["difference"] == 0:
        return "identical"
    words = "same to" if same(entry, order) else "computes something else: differs by"
    return f"{words} {check['difference']:.0e}"


def same(entry: dict[str, Any], order: str) -> bool:
    """Whether a contestant ran and computes what the plain loop does."""
    return entry["checks"][order].get("difference", 1) <= TOLERANCE


def disturbed(sample: dict[str, Any]) -> bool:
    """Whether other processes took much of the machine meanwhile."""
    return (sample.get("others") or 0) > QUIET


class Cell:
    """The samples of one contestant at one piece of work, with or without our settings.

    Disturbed ones count only where there is no other.
    """

    def __init__(self, results: Results, name: str, width: int, order: str, tuned: bool) -> None:
        mine = [
            s
            for s in results["samples"]
            if (s["contestant"], s["channels"], s["order"], s["tuned"])
            == (name, width, order, tuned)
        ]
        mine = [s for s in mine if not disturbed(s)] or mine
        self.seconds = [s["seconds"] for s in mine if "seconds" in s]
        self.disturbed = any(disturbed(s) for s in mine)
        sizes = [s["megabytes"] for s in mine if s.get("megabytes")]
        self.megabytes = statistics.median(sizes) if sizes else None
        self.failed = next((s["failed"] for s in mine if s.get("failed")), None)
        whole = bool(self.seconds) and not self.failed
        self.median = statistics.median(self.seconds) if whole else None
        self.comparable = self.median if same(results["contestants"][name], order) else None

    def columns(self, base: float | None) -> list[str]:
        """Seconds with their range, ratio to `base`, megabytes."""
        if self.median is None:
            return [f"did not run: {self.failed}" if self.failed else "–", "–", "–"]
        text = f"{self.median:.2f}{'*' if self.disturbed else ''}"
        if len(self.seconds) > 1:
            text += f" ({min(self.seconds):.2f}–{max(self.seconds):.2f})"
        ratio = f"{self.comparable / base:.2f}" if self.comparable and base else "–"
        return [text, ratio, f"{self.megabytes:,.0f}" if self.megabytes else "–"]


def race_table(results: Results, width: int, order: str) -> list[str]:
    """One piece of work, a row a contestant."""
    entries = {
        name: entry for name, entry in results["contestants"].items() if order in entry["orders"]
    }
    cells = {(n, t): Cell(results, n, width, order, t) for n in entries for t in (False, True)}
    of_libraries = [cells[n, False].comparable for n, e in entries.items() if e["library"]]
    fastest = min((seconds for seconds in of_libraries if seconds), default=None)
    plain = cells["plain", True].comparable if "plain" in entries else None
    title = WORK[order].format(width, **results["work"])
    lines = [
        f"**{title}**",
        "",
        "| | version | gradient | s, as users get it | of the fastest library's | MB "
        "| s, our allocator settings | of the plain loop's | MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in entries.items():
        version = entry["versions"].get(PACKAGES.get(name, name), "–")
        ours = name.startswith("ours")  # gets its allocator settings by itself
        first = cells[name, ours].columns(fastest)
        row = [entry["title"], version, verdict(entry, order), *first]
        lines.append(line([*row, *cells[name, True].columns(plain)]))
        if ours and "difference" in entry["checks"][order]:
            row = [f"{entry['title']}, without allocator settings", version, "the same"]
            lines.append(line([*row, *cells[name, False].columns(fastest), "–", "–", "–"]))
    return [*lines, ""]


def summary(results: Results) -> str:
    """The table of docs/speed.md: the second-order update as users get it, a row a contestant."""
    widths = sorted({s["channels"] for s in results["samples"] if s["order"] == "second"})
    heads = [""]
    for width in widths:
        heads += [f"Conv4-{width}, s", "of the fastest library's", "MB"]
    entries = {n: e for n, e in results["contestants"].items() if "second" in e["orders"]}
    rows = {name: [_named(name, entry)] for name, entry in entries.items()}
    for width in widths:
        ours = {name: name.startswith("ours") for name in entries}  # sets the allocator by itself
        cells = {name: Cell(results, name, width, "second", ours[name]) for name in entries}
        libraries = [cells[name].comparable for name, e in entries.items() if e["library"]]
        fastest = min(seconds for seconds in libraries if seconds)
        for name, cell in cells.items():
            seconds, ratio, megabytes = cell.columns(fastest)
            rows[name] += [seconds.partition(" (")[0], ratio, megabytes]
    rows["ours"] = [f"**{text}**" for text in rows["ours"]]
    made = f"Made by `python -m tests.bench.table --summary {PEERS}`\n"
    return "\n".join([*map(line, [heads, ["---"] * len(heads), *rows.values()]), "", made])


def _named(name: str, entry: dict[str, Any]) -> str:
    """A contestant, and the version of the library that it is."""
    version = entry["versions"].get(PACKAGES.get(name, name), "") if entry["library"] else ""
    title, comma, rest = entry["title"].partition(",")
    return f"{title} {version}{comma}{rest}" if version else entry["title"]


def line(cells: list[str]) -> str:
    """A row of a table."""
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def markdown(results: Results) -> str:
    """All tables of a results file."""
    lines = []
    if results.get("ours"):
        lines += ["| work | here |", "|---|---|"]
        lines += [line([name, text]) for name, text in results["ours"].items()] + [""]
    samples = results.get("samples", [])
    done = {(s["order"], s["channels"]) for s in samples}
    for order in WORK:
        for width in sorted(width for of, width in done if of == order):
            lines += race_table(results, width, order)
    if samples:
        rounds = len({s["round"] for s in samples})
        lines += [
            f"Medians of {rounds} interleaved round{'s' * (rounds > 1)} (lowest–highest), each "
            "sample the steps of six seconds, at least one, after a warm-up in a fresh process, "
            f"{results['threads']} threads. MB: the process's peak of anonymous memory during the "
            "step, libraries and data included. As users get it: no settings of malloc or OpenMP; "
            "ours makes its own. Gradient: relative difference to the plain loop's in float64."
        ]
        if any(disturbed(s) for s in samples):
            lines.append(
                f"Samples during which other processes took over {QUIET} cores are left out; "
                "* there is no other sample: do not trust it."
            )
        slow = [s for s in samples if s.get("first_seconds", 0) > s.get("seconds", 0) * 2 + 5]
        for name in dict.fromkeys(s["contestant"] for s in slow):
            longest = max(s["first_seconds"] for s in slow if s["contestant"] == name)
            title = results["contestants"][name]["title"]
            lines.append(f"{title}: the warm-up step, not counted, takes up to {longest:.0f} s.")
    where = results["machine"]
    lines += ["", f"{results['date']}, {where['cores']} cores of {where['cpu']}, {where['os']}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    short = "--summary" in sys.argv
    names = [name for name in sys.argv[1:] if name != "--summary"]
    files = [json.loads(Path(name).read_text()) for name in names]
    print("\n".join(map(summary if short else markdown, files)), end="")
