"""Bad input of many kinds: every command and setting with what is no value of it."""

import argparse
from collections.abc import Iterator

from zoo import learners
from zoo.commands.parser import build_parser
from zoo.runs.settings import setting_types
from zoo.values import plain_types

LONG, LONGER = "9" * 30, "9" * 5000
NO_NUMBERS = ["²", "٣", LONG, LONGER, "1_0", "0x10", "1:30", "", " ", "nan", "inf", "1e400", "x\ny"]
RUN = ["run", "protonet", "glyphs", "--budget", "smoke"]
MAML = ["run", "maml", "sinusoid", "--budget", "smoke"]

# What is wrong -> the command, and words that its line must have.
BAD: dict[str, tuple[list[str], str]] = {
    "a digit that is no decimal one": (["table", "glyphs", "--ways", "²"], "--ways '²'"),
    "digits of another script": (["table", "glyphs", "--shots", "١٢"], "--shots '١٢'"),
    "30 digits": (["table", "glyphs", "--seeds", LONG], "at most 15 digits"),
    "5,000 digits": (["sweep", "glyphs", "--shots", LONGER], "--shots '999"),
    "5,000 digits of jobs": (["table", "glyphs", "--jobs", LONGER], "--jobs: '999"),
    "a folder of jobs that is not there": (
        ["table", "glyphs", "--budget", "smoke", "--write-jobs", "nowhere/jobs"],
        "--write-jobs nowhere/jobs: there is no folder nowhere; make it first",
    ),
    "5,000 digits in a variant": (["run", f"maml[inner_lr={LONGER}]", "glyphs"], "inner_lr='999"),
    "5,000 digits of a network": ([*RUN, "--backbone", f"mlp[width={LONGER}]"], "width='999"),
    "no way at all": ([*RUN, "--way", "1"], "--way 1: expected a whole number of at least 2"),
    "one training way": ([*RUN, "--train_way", "1"], "--train_way 1: expected"),
    "no job": (["table", "glyphs", "--jobs", "0"], "--jobs: '0': expected a whole number from 1"),
    "fewer jobs than none": (["study", "trlearner-images", "--jobs", "-3"], "--jobs: '-3'"),
    "seeds that are no numbers": (["paper", "protonet", "--seeds", "x"], "--seeds 'x'"),
    "a seed below 0": ([*RUN, "--seed", "-1"], "--seed -1: expected a whole number from 0"),
    "a seed of more than 32 bits": ([*RUN, "--seed", "4294967296"], "to 4294967295"),
    "a rate that is not finite": ([*RUN, "--outer_lr", "1e400"], "--outer_lr '1e400': expected"),
    "a rate beyond what a network computes in": (
        [*RUN, "--outer_lr", "1e38"],
        "expected a number of at most 1e+30",
    ),
    "a rate that is no number": ([*RUN, "--outer_lr", "nan"], "--outer_lr 'nan': expected"),
    "a rate below 0": ([*RUN, "--outer_lr", "-1"], "--outer_lr -1.0: expected"),
    "a flag without its value": ([*RUN, "--outer_lr"], "--outer_lr: expected a value"),
    "a word too many": ([*RUN, "more"], "'more': expected a flag"),
    "an unknown flag": ([*RUN, "--outer_lrr", "1"], "did you mean 'outer_lr'"),
    "no network": (["run", "protonet[backbone=null]", "glyphs"], "backbone None: expected a text"),
    "an unknown network": ([*RUN, "--backbone", ""], "no backbone ''"),
    "a network of true channels": ([*RUN, "--backbone", "conv4[channels=true]"], "channels True"),
    "a network beyond memory": ([*MAML, "--backbone", "mlp[width=1000000]"], "GB of memory"),
    "a network beyond 64 bits": ([*MAML, "--backbone", "mlp[width=99999999999]"], "cannot be"),
    "an empty value": (["run", "maml[first_order=]", "glyphs"], "first_order '': expected true"),
    "an option twice": (["run", "maml[clip=1,clip=2]", "glyphs"], "clip is given twice"),
    "a number for true": (["run", "maml[first_order=1]", "glyphs"], "first_order 1: expected true"),
    "half a step": (["run", "maml[inner_steps=1.5]", "glyphs"], "inner_steps 1.5: expected"),
    "an open bracket": (["run", "maml[clip=1", "glyphs"], "closing bracket"),
    "an unknown learner": (["run", "mamml", "glyphs"], "did you mean 'maml'"),
    "an unknown learner of a table": (["table", "glyphs", "--learners", "x"], "no learner 'x'"),
    "an unknown option": (["fetch", "glyphs[size=3]"], "has no option 'size'"),
    "true for a number": (["run", "protonet", "folder[seed=true]"], "seed=True is unknown"),
    "an empty option": (["run", "protonet", "cifarfs[size=]"], "size='' is unknown"),
    "an option twice, of images": (["show", "cifarfs[size=84,size=32]", "-o", "x.png"], "twice"),
    "2e12 test episodes": ([*RUN, "--test_episodes", "2000000000000"], "960,000 GB of memory"),
    "a huge meta-batch": ([*RUN, "--meta_batch", "9" * 15], "GB of memory"),
    "a meta-batch of 10^30": ([*RUN, "--meta_batch", f"1{'0' * 30}"], "at most 15 digits"),
    "a support beyond memory": ([*MAML, "--shot", "9" * 15], "take a smaller --shot"),
    "a pre-training's seed": ([*RUN, "--pretrain_seed", "4294967296"], "--pretrain_seed"),
    "shares that are none": (
        [*RUN, "--pretrained_from", "pretrain", "--pretrain_drops", "2"], "--pretrain_drops '2'",
    ),
    "a probability that is none": (
        ["predict", "x", "--support", ".", "--query", ".", "--reject", "nan"], "--reject: 'nan'",
    ),
    "a picture of too many tasks": (
        ["plot", "cnp", "sinusoid", "-o", "x.png", "--tasks", LONG], "--tasks: '999",
    ),
    "a folder that is not there": (["new-learner", "mine", "--to", "nowhere/a.py"], "no folder"),
    "a folder for a page that is not there": (
        ["predict", "x", "--support", ".", "--query", ".", "-o", "nowhere/a.csv"], "no folder",
    ),
    "a file that is not there": ([*RUN, "--config", "nowhere.yaml"], "--config nowhere.yaml"),
    "a table that is not there": (["paper", "x" * 5000], "no table 'xxx"),
    "no weights": (["test", "nothing", "glyphs"], "no run of this name"),
    "weights of a long name": (["test", "x" * 300, "glyphs"], "no run of this name"),
    "a line break in a flag": ([*RUN, "--outer_lr\nx", "1"], "no flag --outer_lr\\nx"),
    "a line break in a word": (["doctor", "glyphs", "a\nb"], "a\\nb is not known"),
    "a line break in a learner": (["table", "glyphs", "--learners", "a\nb"], "no learner"),
    "a command that is none": (["tabel"], "invalid choice: 'tabel'"),
}  # fmt: skip

# What a file of settings holds -> words that its line must have.
CONFIGS = [
    ("outer_lr: " + LONGER, "--config bad.yaml: cannot be read"),
    ("outer_lr: .inf", "bad.yaml: outer_lr inf: expected a finite number"),
    ("updates: 1000000000000000", "updates 1000000000000000: expected a whole number"),
    ("updates: true", "bad.yaml: updates True: expected a whole number"),
    ("updates: 2024-02-30", "--config bad.yaml: cannot be read"),
    ("backbone: [conv4]", "bad.yaml: backbone ['conv4']: expected a text"),
    ("1: 2", "bad.yaml: no setting 1"),
    ("[" * 1000, "--config bad.yaml: cannot be read"),
    ("\xff\x00", "--config bad.yaml: cannot be read"),
]


def numeric_flags() -> Iterator[tuple[str, str]]:
    """Every command and flag that takes a number."""
    (commands,) = build_parser()._subparsers._group_actions
    for command, parser in commands.choices.items():
        for action in parser._actions:
            if isinstance(action.type, argparse._ActionsContainer) or action.type is None:
                continue
            name = action.type.__qualname__
            if action.option_strings and name.startswith(("whole", "number")):
                yield command, action.option_strings[0]


def numeric_settings() -> Iterator[tuple[str, str]]:
    """Every learner and setting that is a number, and no text."""
    for key in learners.names():
        for name, annotation in setting_types(learners.get(key)).items():
            if plain_types(annotation) & {int, float} and str not in plain_types(annotation):
                yield key, name
