"""Whether the tests notice when the code is changed: `python -m tests.mutations --contexts FILE`.

Picks small changes of the code by a seed, as many of each package, makes them one at a time in a
copy of the checkout, and runs the tests that reach the changed line until one of them fails. A
change that no test notices has survived: either the tests miss something, or the change means
nothing. Which tests reach a line is read from coverage's data, to be made by

    python -m pytest --cov --cov-branch --cov-context=test

(add `--durations=0` and give what it printed to --durations: quick tests are then asked first). A
change is known by its file, its line's text and what is done to it, so that the same seed picks
the same changes in checkouts that differ elsewhere.
"""

import argparse
import ast
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = ("zoo", "baselines", "datasets", "reports")
FIRST, MORE = 25, 150  # tests that are run at once: most changes are noticed by the first few
COMPARISONS: dict[type, str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
SWAPPED = {
    "==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "is": "is not",
    "is not": "is", "in": "not in", "not in": "in", "+": "-", "-": "+", "*": "/", "/": "*",
    "and": "or", "or": "and",
}  # fmt: skip
ARITHMETIC: dict[type, str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


class Change(NamedTuple):
    """One change of one file."""

    package: str
    inside: str  # the file's path inside its package
    path: str  # and inside the checkout
    line: int
    lines: range  # of the statement up to the change: what coverage may call it by
    text: str  # the line as it was
    start: int  # the characters of the file that are replaced
    end: int
    new: str
    what: str  # the change in words
    nth: int = 0  # of those that are alike

    def order(self, seed: int) -> bytes:
        """By which changes are drawn: random, but a change's own."""
        words = (seed, self.package, self.inside, self.text, self.what, self.nth)
        return blake2b(repr(words).encode(), digest_size=8).digest()

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}: {self.text}"


class Finder(ast.NodeVisitor):
    """Collects the changes of a file; leaves out docstrings, type hints and messages."""

    def __init__(self, source: str) -> None:
        self.source, self.found = source, []
        self.statement = 1
        starts = [0]
        for line in source.encode().splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self.starts, self.bytes = starts, source.encode()

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Where a node begins and ends, in bytes."""
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def add(self, line: int, start: int, end: int, new: str, what: str) -> None:
        self.found.append((line, range(self.statement, line + 1), start, end, new, what))

    def visit(self, node: ast.AST) -> None:
        """Remember which statement we are in."""
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
            return
        before = self.statement
        if isinstance(node, ast.stmt):
            self.statement = node.lineno
        super().visit(node)
        self.statement = before

    def generic_visit(self, node: ast.AST) -> None:
        """Into everything but type hints."""
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "type_params", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)

    def between(self, left: ast.AST, right: ast.AST, old: str) -> None:
        """Swap the operator that stands between two nodes."""
        start, end = self.span(left)[1], self.span(right)[0]
        pattern = r"\s+".join(map(re.escape, old.split()))
        pattern = rf"(?<!\w){pattern}(?!\w)" if old[0].isalpha() else pattern
        if match := re.search(pattern.encode(), self.bytes[start:end]):
            at = start + match.start()
            line = self.bytes.count(b"\n", 0, at) + 1
            new = SWAPPED[old]
            self.add(line, at, start + match.end(), new, f"{old} -> {new}")

    def visit_Compare(self, node: ast.Compare) -> None:
        """== and !=, < and <=, ..."""
        sides = [node.left, *node.comparators]
        for left, right, operator in zip(sides, sides[1:], node.ops, strict=False):
            self.between(left, right, COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """+ and -, * and /; not of texts."""
        parts = (node.left, node.right)
        text = any(isinstance(p, ast.JoinedStr) or isinstance(_value(p), str) for p in parts)
        if type(node.op) in ARITHMETIC and not text:
            self.between(node.left, node.right, ARITHMETIC[type(node.op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Swap and with or."""
        old = "and" if isinstance(node.op, ast.And) else "or"
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.between(left, right, old)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Drop not."""
        if isinstance(node.op, ast.Not):
            start = self.span(node)[0]
            self.add(node.lineno, start, start + len("not"), "", "not dropped")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """A number more; True and False."""
        if isinstance(node.value, bool | int):
            new = str(not node.value if isinstance(node.value, bool) else node.value + 1)
            self.add(node.lineno, *self.span(node), new, f"{node.value} -> {new}")

    def negated(self, node: Any) -> None:
        """The condition of an if or a while turned round."""
        start, end = self.span(node.test)
        old = self.bytes[start:end].decode()
        self.add(node.test.lineno, start, end, f"(not ({old}))", "condition negated")
        self.generic_visit(node)

    visit_If = visit_While = visit_IfExp = negated  # noqa: N815


def _value(node: ast.AST) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


def home(checkout: Path, package: str) -> Path:
    """A package's folder, at the top of the checkout or inside the first package."""
    top = checkout / package
    return top if top.is_dir() else checkout / PACKAGES[0] / package


def changes_of(checkout: Path, package: str) -> Iterator[Change]:
    """Every change of a package that may be picked."""
    folder = home(checkout, package)
    others = [home(checkout, other) for other in PACKAGES if other != package]
    for path in sorted(folder.rglob("*.py")):
        if any(path.is_relative_to(other) for other in others if other.is_relative_to(folder)):
            continue
        source = path.read_text(encoding="utf-8")
        finder = Finder(source)
        finder.visit(ast.parse(source))
        lines, alike = source.splitlines(), Counter()
        for line, span, start, end, new, what in finder.found:
            text = lines[line - 1].strip()
            place = (path.relative_to(folder).as_posix(), path.relative_to(checkout).as_posix())
            change = Change(package, *place, line, span, text, start, end, new, what)
            yield change._replace(nth=alike[text, what])
            alike[text, what] += 1


def picked(checkout: Path, count: int, seed: int) -> list[Change]:
    """As many changes as asked for, spread over the packages."""
    found = []
    for number, package in enumerate(PACKAGES):
        share = count // len(PACKAGES) + (number < count % len(PACKAGES))
        every = sorted(changes_of(checkout, package), key=lambda change: change.order(seed))
        found += every[:share]
    return found


class Reach:
    """Which tests reach which line."""

    def __init__(self, contexts: Path, durations: Path | None) -> None:
        from coverage import CoverageData

        self.data = CoverageData(str(contexts))
        self.data.read()
        self.files = [Path(file) for file in self.data.measured_files()]
        self.seconds: Counter[str] = Counter()
        for line in durations.read_text().splitlines() if durations else ():
            if match := re.match(r"([\d.]+)s (?:call|setup) +(.*)", line):
                self.seconds[match[2]] += float(match[1])

    def tests(self, change: Change) -> list[str]:
        """Test ids, quick ones first, and one of each test function before more of any.

        Of a line that runs when its module is imported: the tests that reach anything in the file.
        """
        parts = Path(change.path).parts
        (file,) = [str(f) for f in self.files if f.parts[-len(parts) :] == parts] or [""]
        by_line = self.data.contexts_by_lineno(file) if file else {}
        found = {c for line in change.lines for c in by_line.get(line, []) if c}
        found = found or {c for contexts in by_line.values() for c in contexts if c}
        tests = {c.rpartition("|")[0] for c in found}
        tests = sorted(tests, key=lambda test: (self.seconds[test], test))
        seen: Counter[str] = Counter()
        ranked = []
        for test in tests:
            function = test.partition("[")[0]
            ranked.append((seen[function], self.seconds[test], test))
            seen[function] += 1
        return [test for _, _, test in sorted(ranked)]


def run(folder: Path, tests: Sequence[str], seconds: float) -> tuple[bool, str]:
    """Whether all tests pass, and which one does not."""
    (folder / ".asked").write_text("".join(f"{test}\n" for test in tests))
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    words += ["--no-header", "--tb=no", "@.asked"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return False, "takes too long"
    failed = re.search(r"^(?:FAILED|ERROR) (.*)", done.stdout, re.MULTILINE)
    return done.returncode in (0, 5), failed[1] if failed else done.stdout[-300:].strip()


def noticed(change: Change, folder: Path, tests: list[str], seconds: float) -> tuple[str, str]:
    """``killed`` and by which test, or ``survived`` and how many tests."""
    path = folder / change.path
    whole = path.read_bytes()
    path.write_bytes(whole[: change.start] + change.new.encode() + whole[change.end :])
    started, at = time.monotonic(), 0
    try:
        while at < len(tests) and (left := seconds - (time.monotonic() - started)) > 0:
            batch = tests[at : at + (MORE if at else FIRST)]
            passed, why = run(folder, batch, left + 120)
            if not passed:
                return "killed", why
            at += len(batch)
        return "survived", f"{at} of {len(tests)} tests"
    finally:
        path.write_bytes(whole)


def copy_checkout(checkout: Path, folder: Path) -> None:
    """Copy what tests need: with its repository and its links, without what a checkout collects."""
    at_the_top = {".venv", ".bench", "runs", "data", "build", "dist"}

    def left_out(inside: str, names: list[str]) -> set[str]:
        here = at_the_top if Path(inside) == checkout else set()
        return {name for name in names if name in {"__pycache__", ".hypothesis"} | here}

    shutil.copytree(checkout, folder, symlinks=True, ignore=left_out)


def known(folder: Path) -> set[str]:
    """The tests that there are."""
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    return {line for line in done.stdout.splitlines() if "::" in line}


def main(words: Sequence[str] | None = None) -> int:
    """Try the changes; 1 where one survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    root = Path(__file__).resolve().parent.parent
    add = parser.add_argument
    add("--contexts", type=Path, required=True, help="coverage's data, with a context a test")
    add("--durations", type=Path, help="what pytest printed with --durations=0")
    add("--checkout", type=Path, default=root, help="what is changed and tested (default: this)")
    add("--count", type=int, default=40, help="how many changes (default: 40)")
    add("--seed", type=int, default=0, help="which changes (default: 0)")
    add("--only", type=int, nargs="*", help="numbers of changes, to try these alone")
    add("--seconds", type=float, default=300, help="at most, of a change's tests (default: 300)")
    add("--jobs", type=int, default=1, help="changes at a time (default: 1)")
    options = parser.parse_args(words)
    reach = Reach(options.contexts, options.durations)
    changes = list(enumerate(picked(options.checkout, options.count, options.seed)))
    if options.only:
        changes = [(number, change) for number, change in changes if number in options.only]
    with tempfile.TemporaryDirectory() as temporary:
        folders: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for job in range(options.jobs):
            folder = Path(temporary) / str(job)
            copy_checkout(options.checkout, folder)
            folders.put(folder)
        tests = known(folder)

        def attempt(numbered: tuple[int, Change]) -> bool:
            number, change = numbered
            asked = [test for test in reach.tests(change) if test in tests]
            mine = folders.get()
            try:
                verdict, why = noticed(change, mine, asked, options.seconds)
            finally:
                folders.put(mine)
            print(f"{number:3} {verdict:8} {change}\n{'':13}{why}", flush=True)
            return verdict == "killed"

        with ThreadPoolExecutor(options.jobs) as pool:
            verdicts = list(pool.map(attempt, changes))
    print(f"{sum(verdicts)} of {len(verdicts)} killed")
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
