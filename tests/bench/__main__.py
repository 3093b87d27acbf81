"""What the zoo costs, and what other libraries take for the same second-order MAML step.

`make bench` runs everything, `make bench-quick` the zoo's own measurements alone.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from tests.bench.ours import MEASUREMENTS
from tests.bench.peers import NAMES
from tests.bench.race import ROOT, Race, chosen, one_line
from tests.bench.table import WORK, markdown
from zoo.errors import UsageError
from zoo.files import make_folder, write_text


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flag = parser.add_argument
    flag("--quick", action="store_true", help="the zoo's own measurements alone")
    flag("--peers", action="store_true", help="the comparison alone")
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


def measure_ours(race: Race) -> None:
    """The zoo's own measurements, each in a process of its own."""
    race.results["ours"] = {}
    for number, name in enumerate(MEASUREMENTS):
        command = [sys.executable, "-m", "tests.bench.ours", "--only", str(number)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        said = done.stdout.strip() or "did not run"
        if done.returncode:
            said = f"did not run: {one_line(done.stderr)}"
        race.results["ours"][name] = said
        print(f"{name}: {said}", file=sys.stderr, flush=True)
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
    race = Race([] if args.quick else chosen(args.only), args.threads, args.out, args.torch_index)
    status = 0
    try:
        if not args.quick:
            race.check()
            if not args.check:
                race.time(args.rounds, args.channels, args.orders)
        if args.quick or not (args.peers or args.check or args.only):
            measure_ours(race)
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
