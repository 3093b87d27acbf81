"""Every command and its flags, except a learner's settings, which `zoo.runs.settings` parses."""

import argparse
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from zoo.errors import UsageError
from zoo.runs.request import BUDGETS, TERMS
from zoo.values import LARGEST, MOST_PARALLEL, parse_number, parse_whole, shown
from zoo.variants import format_variant

Command = Callable[[argparse.Namespace], int]


# Flags of ``zoo run`` that its short help shows besides the learner's settings.
MAIN_FLAGS = ("way", "shot", "seed", "terms", "budget", "data", "plugin")
MOST_DRAWN = 100  # tasks in one figure
WEIGHTS_NAME = "of a run with weights in --results, a path, or ADDRESS#HASH"


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Leave it to `main` to print the message.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def build_parser() -> Parser:
    """The parser of all commands and flags, except a learner's settings."""
    parser = Parser(prog="python -m zoo", description="The meta-learning zoo.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    plugged = Parser(add_help=False)
    plugged.add_argument(
        "--plugin",
        type=parse_folder,
        action="append",
        metavar="FILE",
        help="a Python file that registers learners, benchmarks or backbones; may be repeated",
    )

    command = commands.add_parser(
        "include", help="put tables of the results folder into pages that name them"
    )
    command.add_argument("pages", nargs="+", type=Path, metavar="PAGE", help="README.md, ...")
    command.set_defaults(call=imported_command("included_tables", "include_command"))

    command = commands.add_parser(
        "list", parents=[plugged], help="the keys of learners, benchmarks or backbones"
    )
    command.add_argument(
        "kind", nargs="?", default="learners", choices=["learners", "benchmarks", "backbones"]
    )
    command.add_argument("--table", action="store_true", help="learners as a Markdown table")
    command.add_argument(
        "--into", type=Path, metavar="FILE", help="put the table into a file, between its marks"
    )
    command.set_defaults(call=imported_command("list_keys", "list_command"))

    command = commands.add_parser(
        "check", parents=[plugged], help="check that a learner keeps what every learner promises"
    )
    command.add_argument("learners", nargs="+", metavar="LEARNER", help="keys or variants, or all")
    command.set_defaults(call=imported_command("learners", "check_command"))

    command = commands.add_parser("new-learner", help="write the skeleton of a learner's file")
    command.add_argument("name", help="its key: small letters, digits and _")
    command.add_argument(
        "--to",
        type=parse_folder,
        metavar="FILE",
        help="(default: baselines/NAME.py of the checkout; NAME.py here, if the zoo is installed)",
    )
    command.set_defaults(call=imported_command("new_learner", "new_learner_command"))

    images = Parser(add_help=False, parents=[plugged])
    group = images.add_argument_group("images")
    group.add_argument(
        "--data",
        type=parse_folder,
        metavar="DIR",
        default=parse_folder(os.environ.get("ZOO_DATA") or "data"),
        help="folder of the image sets (default: $ZOO_DATA, else data)",
    )
    group.add_argument("--yes", action="store_true", help="fetch a large set without asking")

    command = commands.add_parser(
        "fetch", parents=[images], help="download a benchmark's images, unless they are there"
    )
    command.add_argument("benchmark", help="a key or variant")
    command.set_defaults(call=imported_command("data", "fetch_command"))

    where = Parser(add_help=False, parents=[images])
    group = where.add_argument_group("where")
    add_results_flag(group, "finished records")
    group.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="checkpoints and logs of runs under way (default: runs; for a campaign "
        "under_way in the results folder)",
    )
    group.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    group.add_argument(
        "--threads", type=whole(1, MOST_PARALLEL), help="CPU threads (default: all cores)"
    )

    one = Parser(add_help=False, parents=[where])
    add_budget_flag(one)
    group = one.add_argument_group("which run")
    group.add_argument(
        "--way", type=whole(), help="classes of a test episode (default: 5; regression has none)"
    )
    group.add_argument(
        "--shot", type=whole(), default=1, help="support images a class (default: 1)"
    )
    group.add_argument(
        "--seed",
        type=whole(),
        default=0,
        help="seed of the weights and the training episodes (default: 0)",
    )
    add_terms_flag(group)
    group.add_argument("--config", type=Path, metavar="FILE", help="settings from a YAML file")

    command = commands.add_parser(
        "run",
        parents=[one],
        add_help=False,
        usage="%(prog)s LEARNER BENCHMARK [options]",
        help="train and test one learner; LEARNER BENCHMARK --help shows its settings",
    )
    command.add_argument("learner", nargs="?", help="a key or variant: maml[first_order=true]")
    command.add_argument("benchmark", nargs="?", help="a key or variant: omniglot[split=1200/423]")
    command.add_argument(
        "-h", "--help", action="store_true", help="the learner's settings and the main flags"
    )
    command.add_argument(
        "--help-all", action="store_true", help="every flag and setting, and where it comes from"
    )
    command.add_argument(
        "--torchmeta",
        metavar="MODULE:FUNCTION",
        help="in place of BENCHMARK, torchmeta's loaders by split, which the function returns",
    )
    group = command.add_argument_group("how it is trained")
    group.add_argument(
        "--devices",
        type=whole(),
        default=1,
        help="processes that share each meta-batch, a device and --threads each (default: 1)",
    )
    group.add_argument("--logger", default="csv", help="csv, tensorboard or wandb (default: csv)")
    group.add_argument(
        "--callback",
        action="append",
        default=[],
        metavar="PATH",
        help="a Lightning callback by its import path, options in brackets; may be repeated",
    )
    command.set_defaults(call=run_or_help, parser=command)

    command = commands.add_parser(
        "predict",
        parents=[plugged],
        help="predict the class of each photo, from trained weights and a few photos of each class",
    )
    command.add_argument("weights", help=WEIGHTS_NAME)
    command.add_argument(
        "--support",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder with a folder of photos for each class",
    )
    command.add_argument(
        "--query",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder of photos to predict; if their classes are known, a folder for each class",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write a page, .html, with a .csv beside it; or the .csv alone",
    )
    command.add_argument(
        "--reject",
        type=number,
        metavar="P",
        help='say "none of these" where the largest probability is below P',
    )
    command.add_argument(
        "--transductive",
        action="store_true",
        help="let a transductive learner see all photos together (default: one at a time)",
    )
    add_results_flag(command, "where the run's record lies")
    command.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    command.set_defaults(call=imported_command("predict", "predict_command"))

    command = commands.add_parser(
        "test",
        parents=[where],
        help="test trained weights at another way or shot, or on another benchmark",
    )
    command.add_argument("name", help=WEIGHTS_NAME)
    command.add_argument("benchmark", help="a key or variant, of images of the same size")
    command.add_argument("--way", type=whole(), help="classes of an episode (default: the run's)")
    command.add_argument("--shot", type=whole(), help="support images a class (default: the run's)")
    command.add_argument(
        "--query",
        type=whole(),
        help="queries a class (default: the benchmark's; on the run's own benchmark, the run's)",
    )
    command.add_argument("--test_episodes", type=whole(), help="(default: as many as the run had)")
    command.set_defaults(call=imported_command("weights", "test_command"))

    command = commands.add_parser(
        "rates",
        parents=[where],
        help="say which learning rate explains each inner step of trained learners",
    )
    command.add_argument("names", nargs="+", metavar="NAME", help=WEIGHTS_NAME)
    command.add_argument(
        "--episodes", type=whole(1), default=50, help="validation tasks (default: 50)"
    )
    command.set_defaults(call=imported_command("rates", "rates_command"))

    command = commands.add_parser(
        "weights",
        parents=[plugged],
        help="list the trained weights in a folder, or say what is known of one NAME",
    )
    command.add_argument("name", nargs="?", help=WEIGHTS_NAME)
    add_results_flag(command, "folder of records and weights")
    command.add_argument("--json", action="store_true", help="the same facts as JSON")
    command.set_defaults(call=imported_command("weights", "weights_command"))

    command = commands.add_parser(
        "plot",
        parents=[one],
        help="draw a run's predictions of functions or of images' pixels; train it if needed",
    )
    command.add_argument("learner", help="a key or variant; its settings are flags, as in zoo run")
    command.add_argument("benchmark", help="the key or variant of a regression benchmark")
    command.add_argument(
        "--tasks",
        type=whole(1, MOST_DRAWN),
        default=4,
        help="how many test tasks are drawn (default: 4)",
    )
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE", required=True, help="such as cnp.png"
    )
    command.set_defaults(call=imported_command("plot", "plot_command"))

    command = commands.add_parser(
        "tune",
        parents=[one],
        help="search settings that validate best; the test split stays closed",
    )
    command.add_argument("learner", help="a key or variant; its settings are flags, as in zoo run")
    command.add_argument("benchmark", help="a key or variant")
    command.add_argument(
        "--space",
        required=True,
        help='lists and ranges of settings, such as "outer_lr=1e-4..1e-2:log inner_steps=1,3,5"',
    )
    command.add_argument(
        "--trials", type=whole(1), default=30, metavar="N", help="how many in all (default: 30)"
    )
    command.add_argument(
        "--jobs",
        type=parse_jobs,
        metavar="N",
        help="how many processes share the trials (default: auto, which finishes them soonest)",
    )
    command.add_argument(
        "--on", choices=["ray"], help="let the machines of a Ray cluster make the trials"
    )
    command.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    command.set_defaults(call=imported_command("tune", "tune_command"))

    several = Parser(add_help=False, parents=[where])
    add_budget_flag(several)
    several.add_argument(
        "--seeds", default="", help='such as "0 1 2" (default: 0, or the study\'s)'
    )
    several.add_argument("--dry-run", action="store_true", help="say what would be done")
    several.add_argument(
        "--jobs",
        type=parse_jobs,
        metavar="N",
        help="how many processes share the runs (default: auto, which finishes them soonest)",
    )
    several.add_argument(
        "--on", choices=["ray"], help="let the machines of a Ray cluster make the runs"
    )
    several.add_argument(
        "--write-jobs",
        type=parse_folder,
        metavar="FILE",
        help="write the commands of the missing runs, one a line, for other machines",
    )
    several.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)

    command = commands.add_parser(
        "table", parents=[several], help="make the runs that are missing, print the comparison"
    )
    command.add_argument("benchmark", help="a key or variant")
    command.add_argument("--learners", default="", help="keys or variants (default: all)")
    command.add_argument(
        "--from",
        dest="trained_on",
        default="",
        metavar="BENCHMARK",
        help="test weights that were trained on another benchmark; nothing is trained",
    )
    command.add_argument("--ways", default="", help="(default: 5; regression has none)")
    command.add_argument("--shots", default="", help="(default: the benchmark's, 1 5 for most)")
    command.add_argument(
        "--untrained",
        action="store_true",
        help="test every row untrained too, and show what training gained",
    )
    command.add_argument(
        "--differences",
        nargs="?",
        const="best",
        default="",
        choices=["best", "all"],
        help="compare each row with the best of its block; all: every row with every other",
    )
    command.add_argument(
        "--power",
        action="store_true",
        help="print the differences, and how many test episodes it takes to find half a point",
    )
    command.add_argument(
        "--figures", action="store_true", help="draw accuracies, differences, curves, seconds"
    )
    add_terms_flag(command, "both")
    command.set_defaults(call=imported_command("table", "table_command"))

    command = commands.add_parser(
        "ablation",
        parents=[several],
        help="measure what each part of a learner adds, by leaving it out",
    )
    command.add_argument("ablation", help="one of reports/ablations, or a file like those")
    command.add_argument(
        "benchmark", help="a key or variant; further flags are settings of all rows"
    )
    for name in ("--way", "--shot"):
        command.add_argument(name, f"{name}s", type=whole(), help="(default: the paper's)")
    add_terms_flag(command)
    command.set_defaults(call=imported_command("ablation", "ablation_command"))

    command = commands.add_parser(
        "study", parents=[several], help="compare pairs of learners on several kinds of tasks"
    )
    command.add_argument("study", help="one of reports/studies, or a file like those")
    command.add_argument("--pairs", default="", help="labels of the pairs to run (default: all)")
    add_terms_flag(command)
    command.set_defaults(call=imported_command("study", "study_command"))

    command = commands.add_parser(
        "paper",
        parents=[several],
        help="print the table of a paper with our numbers beside its own",
    )
    command.add_argument("paper", help="one of reports/papers, or a file like those")
    command.add_argument("--run", action="store_true", help="make the missing runs before")
    command.set_defaults(call=imported_command("paper", "paper_command"))

    command = commands.add_parser(
        "sweep", parents=[several], help="train once, test over shots and ways: table and figure"
    )
    command.add_argument("benchmark", help="a key or variant, of classification")
    add_terms_flag(command)
    command.add_argument("--learners", default="", help="keys or variants (default: all)")
    command.add_argument(
        "--shots", default="1 2 5 10 20", help="tested at --way (default: %(default)s)"
    )
    command.add_argument(
        "--ways", default="2 5 10 20", help="tested at --shot (default: %(default)s)"
    )
    command.add_argument("--way", type=whole(), default=5, help="of the training run (default: 5)")
    command.add_argument("--shot", type=whole(), default=1, help="of the training run (default: 1)")
    command.set_defaults(call=imported_command("sweep", "sweep_command"))

    command = commands.add_parser(
        "campaign",
        parents=[where],
        help="make the long runs of a list, in the background of other work",
    )
    command.add_argument(
        "campaign",
        nargs="?",
        default="published-levels",
        help="one of reports/campaigns, or a file like those (default: %(default)s)",
    )
    command.add_argument(
        "--status",
        action="store_true",
        help="say what is done and what is under way, and how many hours are left",
    )
    command.add_argument(
        "--jobs",
        type=whole(1, MOST_PARALLEL),
        help="how many runs are made at the same time, on one thread each unless --threads says "
        "otherwise (default: one a core)",
    )
    command.add_argument(
        "--budget", choices=BUDGETS, help="in place of each stage's own, to try the list out"
    )
    command.add_argument(
        "--nice",
        type=whole(),
        default=19,
        help="priority, from 0, that of other work, to 19, the lowest (default: 19)",
    )
    command.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    command.set_defaults(call=imported_command("campaign", "campaign_command"))

    command = commands.add_parser(
        "levels",
        parents=[plugged],
        help="say which learners reach the number of their paper, from the records",
    )
    command.add_argument("benchmark", help="a key or variant, of classification")
    command.add_argument("--learners", default="", help="keys or variants (default: all)")
    command.add_argument("--way", type=whole(), default=5, help="(default: 5)")
    command.add_argument("--shots", default="1", help="(default: 1)")
    command.add_argument("--budget", choices=BUDGETS, default="hour", help="(default: hour)")
    add_terms_flag(command)
    add_results_flag(command, "the records")
    command.set_defaults(call=imported_command("levels", "levels_command"))

    command = commands.add_parser(
        "doctor", parents=[plugged], help="say which image sets lie in a folder, and their state"
    )
    command.add_argument("data", type=Path, metavar="DIR", help="folder that holds the images")
    command.add_argument("--benchmark", metavar="B", help="look for this one only")
    command.add_argument("--json", action="store_true", help="the same facts as JSON")
    command.set_defaults(call=imported_command("data", "doctor_command"))

    command = commands.add_parser(
        "rename-records",
        parents=[plugged],
        help="give records of an earlier version of the zoo the names they have today",
    )
    command.add_argument("results", type=parse_folder, metavar="DIR", help="folder of the records")
    command.set_defaults(call=imported_command("rename_records", "rename_command"))

    command = commands.add_parser(
        "show",
        parents=[images],
        help="draw an episode of a benchmark; or a finished run's worst episodes, with what it "
        "predicted and which classes it confused",
    )
    command.add_argument("name", help="a benchmark, or a run's name or the beginning of it")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        required=True,
        help="such as episode.png; for a run also a page, .html",
    )
    command.add_argument(
        "--episode", type=whole(0), help="the episode's number (default: 0; for a run the worst)"
    )
    group = command.add_argument_group("of a benchmark")
    group.add_argument("--split", help="train, val or test (default: test)")
    group.add_argument("--way", type=whole(2), help="classes (default: 5)")
    group.add_argument("--shot", type=whole(1), help="support images a class (default: 1)")
    group.add_argument(
        "--query", type=whole(1), help="queries a class (default: those of the tests)"
    )
    group = command.add_argument_group("of a run")
    add_results_flag(group, "where its record lies")
    group.add_argument("--worst", type=whole(1), help="episodes on a page (default: 3)")
    command.set_defaults(call=imported_command("data", "show_command"))

    command = commands.add_parser(
        "convert", parents=[images], help="write a benchmark in a form that other tools read"
    )
    command.add_argument("benchmark", help="a key or variant")
    command.add_argument("--to", required=True, help="folders, csv, torchmeta or pkl")
    command.add_argument(
        "--out", type=parse_folder, required=True, metavar="DIR", help="a new folder to write to"
    )
    command.set_defaults(call=imported_command("data", "convert_command"))
    return parser


def run_or_help(options: argparse.Namespace) -> int:
    """``zoo run``, or its general help where the learner or the benchmark is not given.

    Raises:
        UsageError: both a benchmark and torchmeta's loaders are given.
    """
    if options.torchmeta:
        if options.benchmark is not None:
            raise UsageError(f"--torchmeta: takes the place of {options.benchmark}; leave one out")
        options.benchmark = format_variant("torchmeta", {"loaders": options.torchmeta})
    if options.learner is None or options.benchmark is None:
        if not options.help_all:
            leave_out_of_help(options.parser)
        asked = options.help or options.help_all
        options.parser.print_help(sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    return imported_command("run", "run_command")(options)


def leave_out_of_help(parser: Parser) -> None:
    """Leave all flags out of the help of ``zoo run``, except the most important ones."""
    for action in parser._actions:
        if action.dest not in ("learner", "benchmark", "help", "help_all", *MAIN_FLAGS):
            action.help = argparse.SUPPRESS


def add_results_flag(
    parser: "argparse.ArgumentParser | argparse._ArgumentGroup", what: str
) -> None:
    """Add ``--results``, whose help says `what` lies in that folder."""
    parser.add_argument(
        "--results",
        type=parse_folder,
        metavar="DIR",
        default=Path("results"),
        help=f"{what} (default: results)",
    )


def add_budget_flag(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    """Add ``--budget``, which says how long runs are trained."""
    parser.add_argument(
        "--budget",
        choices=BUDGETS,
        default="quick",
        metavar="BUDGET",
        help="how long to train: none, smoke, quick, hour or paper (default: quick, about "
        "10 minutes on 2 cores)",
    )


def add_terms_flag(parser: "argparse.ArgumentParser | argparse._ArgumentGroup", *more: str) -> None:
    """Add ``--terms``, which says on which terms learners are compared.

    Args:
        parser: where the flag is added.
        *more: terms that this command takes besides `TERMS`.
    """
    parser.add_argument(
        "--terms",
        choices=(*TERMS, *more),
        default="paper",
        help="settings of each learner's paper, or equal for all (default: paper)",
    )


def parse_folder(text: str) -> Path:
    """A path from the command line, with ``~`` expanded, as the shell may not have done so."""
    return Path(text).expanduser()


def whole(least: int = -LARGEST, most: int = LARGEST) -> Callable[[str], int]:
    """The type of a flag that takes a whole number from `least` to `most`.

    A flag without bounds leaves it to its command to refuse a number.
    """

    def parse(text: str) -> int:
        try:
            return parse_whole(text, least, most)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{shown(text)}: {error}") from None

    return parse


def number(text: str) -> float:
    """The type of a flag that takes a number.

    Raises:
        ArgumentTypeError: the text is not a number.
    """
    try:
        return parse_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{shown(text)}: {error}") from None


def parse_jobs(text: str) -> int | None:
    """How many processes share the runs; None for ``auto``.

    Raises:
        ArgumentTypeError: the text is neither a number of at least 1 nor ``auto``.
    """
    if text == "auto":
        return None
    try:
        return parse_whole(text, 1, MOST_PARALLEL)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{shown(text)}: {error}, or auto") from None


def imported_command(module: str, name: str) -> Command:
    """A function of a module in this folder; the module is imported when the function is called."""
    return lambda options: getattr(import_module(f"zoo.commands.{module}"), name)(options)
