"""The commands for trained weights: ``zoo weights`` lists them, ``zoo test`` tests them."""

import argparse
import json
import math
import shlex
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from zoo.commands.run_set import workspace_of
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.reports.estimates import estimate_from_record
from zoo.reports.metrics import METRICS, is_error
from zoo.runs.make_runs import execute
from zoo.runs.named_weights import NamedWeights, find_weights, weights_in
from zoo.runs.request import RunRequest
from zoo.runs.tested_weights import WeightsTest
from zoo.runs.weights import file_hash, image_text, numbers_text
from zoo.values import format_value
from zoo.variants import format_variant

NOT_KNOWN = "not known"


def weights_command(options: argparse.Namespace) -> int:
    """Print the weights in a folder as a table, or all that is known of one file."""
    if options.name:
        card = card_of(find_weights(options.name, options.results))
        print(json.dumps(card, indent=1) if options.json else card_text(card))
        return 0
    cards = [card_of(weights) for weights in weights_in(options.results)]
    if options.json:
        print(json.dumps(cards, indent=1))
    elif cards:
        print(list_text(cards))
    else:
        print(f"no weights in {options.results}: `zoo run` leaves them beside its records")
    return 0


def test_command(options: argparse.Namespace) -> int:
    """Test existing weights, and print the result."""
    run = WeightsTest(
        find_weights(options.name, options.results),
        options.benchmark,
        workspace_of(options),
        way=options.way,
        shot=options.shot,
        query=options.query,
        test_episodes=options.test_episodes,
    )
    trained_on, benchmark = (run.trained_on or {}), run.benchmark
    mean, std = trained_on["mean"], trained_on["std"]
    if [mean, std] != [list(benchmark.mean), list(benchmark.std)]:
        print(
            f"images are normalised as in the training of the weights, mean {numbers_text(mean)}, "
            f"std {numbers_text(std)}; {benchmark.variant} has mean "
            f"{numbers_text(benchmark.mean)}, std {numbers_text(benchmark.std)}"
        )
    return execute([run])


def card_of(weights: NamedWeights) -> dict[str, Any]:
    """All that is known of some weights, by name; None for what is not known.

    Raises:
        UsageError: the file cannot be read.
    """
    about, record = weights.about, weights.record or {}
    changed = record.get("variant")  # settings that are not the defaults
    tasks = record.get("training_tasks") or {}
    seen, paper = tasks.get("seen"), tasks.get("paper")
    share = seen / paper if paper else paper  # None if it is not known, 0 if the paper trains none
    size = weights.path.stat().st_size
    return {
        "name": weights.name,
        "file": str(weights.path),
        "learner": about["learner"],
        "title": format_variant(about["learner"], changed) if changed else about.get("title"),
        "changed": changed,
        "benchmark": about.get("benchmark"),
        "data": {"fingerprint": about.get("data"), "licence": licence_of(about)},
        **{name: record.get(name) for name in ("way", "shot", "terms", "budget", "seed")},
        "image": about["image"],
        "mean": about["mean"],
        "std": about["std"],
        "backbone": about["settings"].get("backbone"),
        "parameters": record.get("parameters"),
        "training_tasks": {"seen": seen, "paper": paper, "share": share},
        "updates": (record.get("updates") or {}).get("total"),
        "tested": tested_of(record),
        "remark": record.get("remark"),
        "command": command_of(record) if record else None,
        "commit": (record.get("environment") or {}).get("commit"),
        "megabytes": round(size / 1e6, 3),
        "hash": file_hash(weights.path.read_bytes()),
    }


def command_of(record: Mapping[str, Any]) -> str:
    """The command that trains the weights of a record; older records do not hold it.

    Where images of one's own lie the record does not say: DIR stands for their folder.
    """
    names = ("benchmark", "way", "shot", "terms", "budget", "seed")
    learner = format_variant(record["learner"], record["variant"])
    request = RunRequest(learner, **{name: record[name] for name in names})
    recorded = (record.get("weights") or {}).get("command")
    command = recorded or shlex.join(request.command)
    return f"{command} --data DIR" if is_of_own_images(record["benchmark"]) else command


def is_of_own_images(benchmark: str) -> bool:
    """Whether a benchmark is a folder of somebody's own images."""
    try:
        return find_benchmark(benchmark).own
    except UsageError:  # a plug-in's that is not loaded
        return False


def licence_of(about: Mapping[str, Any]) -> str | None:
    """The licence of the data that weights were trained on, if we know of one."""
    try:
        return find_benchmark(about["benchmark"]).licence or None
    except (KeyError, UsageError):  # a plug-in's that is not loaded, or the user's own images
        return None


def tested_of(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the run measured with these weights: metric, mean, half-width, and all as text."""
    metrics = record.get("metrics") or {}
    metric = next((name for name in METRICS if name in metrics), None)
    if metric is None:
        return None
    mean, ci95 = metrics[metric]["mean"], metrics[metric]["ci95"]
    count = record["episodes"]["count"]
    if is_error(metric):  # a few tasks decide the mean, so no interval around it says anything
        text = "mse ∞" if mean is None else f"mse {mean:.3f}"
    else:
        width = math.nan if ci95 is None else ci95
        text = f"{estimate_from_record(mean, width, metric, count).times(100).text()} %"
    return {"metric": metric, "mean": mean, "ci95": ci95, "episodes": count, "text": text}


def list_text(cards: list[dict[str, Any]]) -> str:
    """The weights as a table, a line each."""
    rows = [
        [
            card["title"] or card["learner"],
            card["benchmark"] or NOT_KNOWN,
            shape_text(card),
            card["tested"]["text"] if card["tested"] else NOT_KNOWN,
            f"{card['megabytes']:.2f}",
            card["name"],
        ]
        for card in cards
    ]
    heads = ["learner", "trained on", "episodes", "tested", "MB", "name"]
    return tabulate(rows, heads, disable_numparse=True, colalign=["left"] * 4 + ["right", "left"])


def shape_text(card: Mapping[str, Any]) -> str:
    """``5-way 1-shot``, as far as the card knows it."""
    if card["shot"] is None:
        return NOT_KNOWN
    return f"{card['way']}-way {card['shot']}-shot" if card["way"] else f"{card['shot']}-shot"


def card_text(card: Mapping[str, Any]) -> str:
    """All that is known of some weights in words, one fact a line."""
    tasks, tested, data = card["training_tasks"], card["tested"], card["data"]
    changed = [f"{name}={format_value(value)}" for name, value in (card["changed"] or {}).items()]
    seen = NOT_KNOWN if tasks["seen"] is None else f"{tasks['seen']:,}"
    if tasks["share"] is not None:
        seen += f", {100 * tasks['share']:.3g} % of the paper's {tasks['paper']:,}"
    terms = f", {card['terms']} terms, {card['budget']} budget" if card["terms"] else ""
    count = f", over {tested['episodes']:,} test episodes" if tested else ""
    lines = {
        "learner": card["title"] or card["learner"],
        "changed settings": ", ".join(changed) or ("none" if card["changed"] == {} else NOT_KNOWN),
        "remark": card["remark"],
        "trained on": f"{card['benchmark'] or NOT_KNOWN}, {shape_text(card)}{terms}",
        "data": f"fingerprint {data['fingerprint'] or NOT_KNOWN}",
        "licence of the data": data["licence"] or NOT_KNOWN,
        "training tasks": seen,
        "updates": card["updates"],
        "tested": f"{tested['text']}{count}" if tested else f"{NOT_KNOWN}: no record beside it",
        "images": f"{image_text(card['image'])}, mean {numbers_text(card['mean'])}, "
        f"std {numbers_text(card['std'])}",
        "backbone": card["backbone"],
        "parameters": card["parameters"] and f"{card['parameters']:,}",
        "made by": card["command"],
        "commit": card["commit"],
        "file": f"{card['file']}, {card['megabytes']:.2f} MB",
        "hash": card["hash"],
    }
    width = max(map(len, lines)) + 2
    facts = [f"  {name:{width}}{value}" for name, value in lines.items() if value is not None]
    return "\n".join([card["name"], *facts])
