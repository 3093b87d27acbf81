"""A table out of a folder of many records: seconds and memory. Goal: 10,000 in 15 s and 1 GB.

`python -m tests.bench.many [RECORDS]` writes records of 1,000 episodes into a folder of its own:
ten benchmarks, two shots, twenty settings of ProtoNet, the rest seeds; then makes one table of all
that the first benchmark has, with every pair of its rows tested, in a process of its own.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from zoo.reports.formats.markdown import to_markdown
from zoo.reports.tables.comparison import compared_rows, comparison_numbers, comparison_table
from zoo.reports.tables.differences import best_rows, row_differences

EPISODES, BENCHMARKS, SHOTS, VARIANTS = 1000, 10, (1, 5), 20


def write(folder: Path, count: int) -> None:
    """Records that differ in benchmark, shot, variant and seed."""
    from zoo.reports.records import checksum

    shapes = [(b, s, v) for b in range(BENCHMARKS) for s in SHOTS for v in range(VARIANTS)]
    rng = np.random.default_rng(0)
    settings = {f"setting{n}": {"value": n, "origin": "constructor", "source": "a table"}
                for n in range(40)}  # fmt: skip
    for number in range(count):
        (benchmark, shot, variant), seed = shapes[number % len(shapes)], number // len(shapes)
        name = f"protonet-{benchmark}-{shot}s-{variant}-s{seed}"
        accuracy = rng.integers(20, 76, EPISODES) / 75
        prediction = rng.integers(0, 5, (EPISODES, 75)).astype(np.uint8)
        np.savez_compressed(folder / f"{name}.npz", accuracy=accuracy, prediction=prediction)
        record = {
            "schema": 1, "run": name, "status": "done", "learner": "protonet", "title": "ProtoNet",
            "variant": {"outer_lr": variant}, "benchmark": f"omniglot[split={benchmark}]",
            "way": 5, "shot": shot, "terms": "paper", "budget": "quick", "seed": seed,
            "settings": {**settings, "query": {"value": 15}, "outer_lr": {"value": variant}},
            "backbone_family": "conv4", "traits": {"transductive": False, "batch_norm": "running"},
            "training_tasks": {"seen": 1000, "paper": None},
            "validation": [[100 * n, 0.5] for n in range(25)],
            "episodes": {"split": "test", "count": EPISODES, "fingerprint": f"{shot}"},
            "metrics": {"accuracy": {"mean": float(accuracy.mean()), "ci95": 0.01}},
            "data": {"fingerprint": f"{benchmark}"},
        }  # fmt: skip
        text = json.dumps(record | {"checksum": checksum(record)})
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def table(folder: Path) -> None:
    """What `zoo table` does once all runs are there, without the files; prints what it took."""
    import resource
    import time

    started = time.perf_counter()
    from zoo.reports import published, records

    theirs, benchmark = published.published(), "omniglot[split=0]"
    measured, problems = records.load(folder)
    count = len(measured)
    measured = measured[measured["benchmark"] == benchmark]
    values, broken = records.values(folder, measured)
    assert not problems and not broken
    contenders = compared_rows(measured, benchmark)
    found = row_differences(contenders, measured, values)
    bold = best_rows(found, comparison_numbers(measured, theirs, benchmark, (), values))
    text = comparison_table(measured, theirs, benchmark, values=values, bold=bold)
    lines = len(to_markdown(text).splitlines())
    seconds, own = time.perf_counter() - started, time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{count} records of {EPISODES} episodes, a table of {len(measured)} of them with "
        f"{len(found)} pairs tested ({lines} lines): {seconds:.1f} s, of which its own {own:.1f} s "
        f"of computing; {peak:.2f} GB"
    )


def main() -> None:
    """Write the records, then make the table in a process of its own."""
    import subprocess

    if sys.argv[1:2] == ["--table"]:
        table(Path(sys.argv[2]))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), count)
        subprocess.run([sys.executable, "-m", "tests.bench.many", "--table", name], check=True)


if __name__ == "__main__":
    main()
