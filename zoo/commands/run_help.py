"""The help of ``zoo run``: ``--help`` shows the main flags, ``--help-all`` shows every flag."""

import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence

from zoo.commands.parser import MAIN_FLAGS, Parser
from zoo.runs.resolved import ResolvedRequest
from zoo.runs.settings import PRETRAIN, SHARED_SETTING_NAMES, Setting, documentation
from zoo.values import format_value

MAIN_SETTINGS = ("backbone", "updates")
WIDTH = 80


def short_help(parser: Parser, resolved: ResolvedRequest) -> str:
    """A learner's own settings and the most important flags of every run, one line each."""
    texts = documentation(resolved.cls)
    rows_of_learner: list[tuple[str, str]] = []
    rows_of_runs: list[tuple[str, str]] = []
    for name, setting in resolved.every_setting.items():
        row = (f"--{name} {value_text(setting)}", texts.get(name, ""))
        if name not in SHARED_SETTING_NAMES:
            rows_of_learner.append(row)
        elif name in MAIN_SETTINGS:
            rows_of_runs.append(row)
    actions = {action.dest: action for action in parser._actions}
    for name in MAIN_FLAGS:
        value = getattr(resolved.request, name, None)
        if name == "way" and value is None:
            continue  # regression has none
        if value is None:
            value = actions[name].metavar or name.upper()
        text = re.sub(r" \(default: [^)]*\)", "", actions[name].help or "")
        rows_of_runs.append((f"--{name} {value}", text))
    return "\n".join(
        [
            f"usage: {parser.prog} LEARNER BENCHMARK [options]",
            f"settings of {title(resolved)}:",
            *(one_line_each(rows_of_learner) or ["  (none of its own)"]),
            "of every run:",
            *one_line_each(rows_of_runs),
            "--help-all shows every flag and setting, and where each value comes from",
        ]
    )


def title(resolved: ResolvedRequest) -> str:
    """The request in words: ``maml on omniglot, 5-way 1-shot, terms paper, budget quick``."""
    request = resolved.request
    return (
        f"{request.learner} on {request.benchmark}, {request.shape}, "
        f"terms {request.terms}, budget {request.budget}"
    )


def value_text(setting: Setting) -> str:
    """A value as one types it in a shell."""
    return shlex.quote(format_value(setting.value))


def without_markup(text: str) -> str:
    """A setting's documentation without its sources in brackets and without backticks."""
    return re.sub(r" \[[^\]]*\]", "", text).replace("`", "")


def one_line_each(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Flags in one column, and the first clause of their documentation in another."""
    width = max((len(flag) for flag, _ in rows), default=0)
    lines = []
    for flag, text in rows:
        first = re.split(r"[;.] |\.$", without_markup(text))[0]
        lines.append(f"  {flag:<{width}}  {first}".rstrip())
    return [line if len(line) <= WIDTH else cut_to_width(line) for line in lines]


def cut_to_width(line: str) -> str:
    """Cut a line after a whole word and end it with dots, within `WIDTH` characters."""
    return line[: WIDTH - 3].rpartition(" ")[0].rstrip(" ,:") + " ..."


def full_help(parser: Parser, resolved: ResolvedRequest) -> str:
    """Every flag, and every setting: its value, what it means and where the value comes from."""
    of_learner: dict[str, Setting] = {}
    of_runs: dict[str, Setting] = {}
    of_pretraining: dict[str, Setting] = {}
    for name, setting in resolved.every_setting.items():
        if name.startswith(PRETRAIN):
            of_pretraining[name] = setting
        elif name in SHARED_SETTING_NAMES:
            of_runs[name] = setting
        else:
            of_learner[name] = setting
    texts = documentation(resolved.cls)
    return "\n".join(
        [
            parser.format_help(),
            f"settings of {title(resolved)}:",
            *explained(of_learner, texts),
            "settings of every run:",
            *explained(of_runs, texts),
            "settings of a pre-training:",
            *explained(of_pretraining, texts),
        ]
    )


def explained(settings: Mapping[str, Setting], texts: Mapping[str, str]) -> list[str]:
    """For each setting the flag with its value, what it means, and where the value comes from."""
    lines = []
    for name, setting in settings.items():
        origin = f"from {setting.origin}"
        if setting.source:
            origin += f": {setting.source}"
        lines.append(f"  --{name} {value_text(setting)}")
        for text in (without_markup(texts.get(name, "")), origin):
            lines += textwrap.wrap(
                text,
                WIDTH,
                initial_indent=" " * 8,
                subsequent_indent=" " * 8,
                break_long_words=False,
                break_on_hyphens=False,
            )
    return lines
