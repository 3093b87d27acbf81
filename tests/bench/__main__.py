"""What the zoo costs, and what other libraries take for the same second-order MAML step.

`make bench` runs everything, `make bench-quick` part `ours` alone. The parts: `peers` compares
libraries, `beside` us and a plain loop, step by step in one process; `ours` measures the zoo's
pieces, `runs` what a run takes beside them.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from tests.bench import beside, ours, runs
from tests.bench.peers import NAMES
from tests.bench.race import ROOT, Race, chosen, one_line
from tests.bench.table import WORK, markdown
from zoo.errors import UsageError
from zoo.files import make_folder, write_text

PARTS = ("peers", "beside", "ours", "runs")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flag = parser.add_argument
    flag("--parts", nargs="+", choices=PARTS, help="default: all; peers with --check or --only")
    flag("--check", action="store_true", help="install and compare gradients, time nothing")
    flag("--only", nargs="+", choices=NAMES, default=[], metavar="NAME", help=", ".join(NAMES))
    flag("--channels", nargs="+", type=int, default=[32, 64], metavar="C", help="default: 32 64")
    flag("--orders", nargs="+", choices=WORK, default=list(WORK), help="default: all")
    flag("--rounds", type=int, default=3, help="samples of each timing (default: 3)")
    flag("--threads", type=int, default=2, help="default: 2")
    flag("--out", type=Path, metavar="FILE", help="where the results go, as JSON, while they come")
    flag("--table", type=Path, metavar="FILE", help="where the tables go as well, in Markdown")
    flag("--torch-index", metavar="URL", help="another place where pip may look for torch")
    return parser.parse_args()


def measure(race: Race, module: ModuleType) -> None:
    """The zoo's own measurements, each in a process of its own."""
    found = race.results.setdefault("ours", {})
    for name in module.MEASUREMENTS:
        command = [sys.executable, "-m", module.__name__, name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        found[name] = done.stdout.strip()
        if done.returncode:
            found[name] = f"did not run: {one_line(done.stderr)}"
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
        race.save()


def main() -> int:
    """Run what was asked for, and print it as tables."""
    args = arguments()
    try:
        for flag, path in (("--out", args.out), ("--table", args.table)):
            if path:
                make_folder(path.parent, flag)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    parts = args.parts or (["peers"] if args.check or args.only else PARTS)
    names = chosen(args.only) if "peers" in parts else []
    race = Race(names, args.threads, args.out, args.torch_index)
    status = 0
    try:
        if names:
            race.check()
            if not args.check:
                race.time(args.rounds, args.channels, args.orders)
        for module in (beside, ours, runs):
            if module.__name__.rpartition(".")[2] in parts:
                measure(race, module)
    except KeyboardInterrupt:
        status = 130
        print("stopped; what was measured is below", file=sys.stderr)
    text = markdown(race.results)
    if args.table:
        write_text(args.table, text)
    print(text, end="")
    return status


if __name__ == "__main__":
    sys.exit(main())
