"""What the docs show of commands is what they print."""

import sys

import pytest

from tests.pages.console import PAGES, as_on_the_pages, run, shown, with_outputs
from zoo.commands.parser import build_parser

HELP = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="other versions of argparse break lines elsewhere"
)


@HELP
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_what_its_commands_print(page):
    """`make outputs` mends it. One page has every command: it takes some seconds."""
    text = page.read_text(encoding="utf-8")
    with as_on_the_pages():
        assert with_outputs(text) == text


def test_the_page_of_commands_has_every_command():
    (page,) = [page for page in PAGES if page.name == "commands.md"]
    text = page.read_text(encoding="utf-8")
    commands = [command for command, _ in shown(text)]
    (parsers,) = [a.choices for a in build_parser()._actions if a.dest == "command"]
    for name in parsers:
        assert f"\n### zoo {name}\n" in text
        assert {f"zoo {name} --help", f"zoo {name} --help-all"} & {*commands}


def test_an_output_that_changed_is_written_anew():
    text = "a\n```console\n$ zoo list backbones\nold\n$ zoo --help\n```\nb\n"
    with as_on_the_pages():
        after = with_outputs(text)
    assert (
        after.startswith("a\n```console\n$ zoo list backbones\nconv4 ") and "\nold\n" not in after
    )
    assert "\n$ zoo --help\nusage: " in after and after.endswith("\n```\nb\n")


@pytest.mark.parametrize("command", ["rm -r results", "zoo weights nothing"])
def test_what_is_not_ours_or_fails_is_refused(command, capsys):
    with as_on_the_pages(), pytest.raises(ValueError, match=command):
        run(command)
