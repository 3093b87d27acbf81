"""What came of the faults so far, a line of JSON each, and the table of them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.faults.fault import BAD, OUTCOMES, SKIPPED, Fault, Outcome


class Results:
    """The file of results of one seed; the same command goes on behind its last whole line."""

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"faults-seed{seed}.jsonl"
        self.rows: list[dict[str, Any]] = []
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # a kill may have cut the last line
        if whole != text:
            self.path.write_text(whole, encoding="utf-8")
        self.rows = [json.loads(line) for line in whole.splitlines()]

    def known(self, fault: Fault) -> bool:
        """Whether a fault was tried."""
        return any((row["part"], row["name"]) == fault[:2] for row in self.rows)

    def add(self, fault: Fault, outcome: Outcome, seconds: float) -> dict[str, Any]:
        """Append what came of a fault."""
        row = {
            **fault._asdict(),
            "results": outcome.results,
            "said": outcome.said,
            "seconds": round(seconds, 2),
        }
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        return row


def table(rows: Sequence[dict[str, Any]], parts: Iterable[str]) -> str:
    """The figures as Markdown: a line a part, and their sum."""
    heads = ["fault", "tried", *OUTCOMES]
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)]]
    for part in parts:
        lines.append([part, *_counts([row for row in rows if row["part"] == part])])
    lines.append(["all", *_counts(rows)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _counts(rows: Sequence[dict[str, Any]]) -> list[str]:
    found = [word for row in rows for word in row["results"]]
    return [str(len(rows)), *(str(found.count(word)) for word in OUTCOMES)]


def reasons_skipped(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Why faults could not be tried, each reason once with how often."""
    said = [f"{row['part']}: {row['said']}" for row in rows if SKIPPED in row["results"]]
    return [f"{said.count(reason)} {SKIPPED}, {reason}" for reason in dict.fromkeys(said)]


def failures(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where something was lost, unequal, or a traceback."""
    return [row for row in rows if {*BAD} & {*row["results"]}]
