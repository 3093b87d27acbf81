"""The help of ``zoo run``: the main flags by ``--help``, every flag by ``--help-all``."""

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
    settings, texts = resolved.every_setting, documentation(resolved.cls)
    own, of_runs = [], []
    for name, setting in settings.items():
        row = (f"--{name} {value_text(setting)}", texts.get(name, ""))
        if name not in SHARED_SETTING_NAMES:
            own.append(row)
        elif name in MAIN_SETTINGS:
            of_runs.append(row)
    actions = {action.dest: action for action in parser._actions}
    for name in MAIN_FLAGS:
        value = getattr(resolved.request, name, None)
        if name == "way" and value is None:
            continue  # regression has none
        shown = actions[name].metavar or name.upper() if value is None else value
        text = re.sub(r" \(default: [^)]*\)", "", actions[name].help or "")
        of_runs.append((f"--{name} {shown}", text))
    return "\n".join(
        [
            f"usage: {parser.prog} LEARNER BENCHMARK [options]",
            f"settings of {title(resolved)}:",
            *(one_line_each(own) or ["  (none of its own)"]),
            "of every run:",
            *one_line_each(of_runs),
            "--help-all shows every flag and setting, and where each value comes from",
        ]
    )


def title(resolved: ResolvedRequest) -> str:
    """What is asked for: ``maml on omniglot, 5-way 1-shot, terms paper, budget quick``."""
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
    """Flags and the first thing that is said of each, in two columns."""
    width = max((len(flag) for flag, _ in rows), default=0)
    lines = []
    for flag, text in rows:
        first = re.split(r"[;.] |\.$", without_markup(text))[0]
        lines.append(f"  {flag:<{width}}  {first}".rstrip())
    return [line if len(line) <= WIDTH else cut_to_width(line) for line in lines]


def cut_to_width(line: str) -> str:
    """A line that ends, after a whole word, with dots, at most `WIDTH` characters long."""
    return line[: WIDTH - 3].rpartition(" ")[0].rstrip(" ,:") + " ..."


def full_help(parser: Parser, resolved: ResolvedRequest) -> str:
    """Every flag, and every setting: its value, what it means and where the value comes from."""
    settings, texts = resolved.every_setting, documentation(resolved.cls)
    parts = {
        f"settings of {title(resolved)}:": [n for n in settings if n not in SHARED_SETTING_NAMES],
        "settings of every run:": [
            n for n in settings if n in SHARED_SETTING_NAMES and not n.startswith(PRETRAIN)
        ],
        "settings of a pre-training:": [n for n in settings if n.startswith(PRETRAIN)],
    }
    lines = [parser.format_help()]
    for heading, names in parts.items():
        lines += [heading, *explained({name: settings[name] for name in names}, texts)]
    return "\n".join(lines)


def explained(settings: Mapping[str, Setting], texts: Mapping[str, str]) -> list[str]:
    """Settings in lines: flag and value, what it means, where the value comes from."""
    lines = []
    for name, setting in settings.items():
        origin = f"from {setting.origin}"
        if setting.source:
            origin += f": {setting.source}"
        lines.append(f"  --{name} {value_text(setting)}")
        for text in (without_markup(texts.get(name, "")), origin):
            lines += textwrap.wrap(
                text, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8,
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
    return lines
