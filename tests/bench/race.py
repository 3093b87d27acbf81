"""Checks and times the contestants, each in a fresh process, and keeps what it learns at once."""

import importlib
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.environments import ROOT, InstallError, python_of
from tests.bench.peers import NAMES
from tests.bench.problem import CHECK, TEST_STEPS, TIMED, write_problem
from tests.bench.table import disturbed, verdict
from tests.bench.worker import Request
from zoo.files import write_json

LIMIT = 900  # seconds of a process
TRIES = 3  # of a sample that other processes disturb
OF_THE_USER = ("OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "GLIBC_TUNABLES", "XLA_", "LD_PRELOAD")


class WorkerError(Exception):
    """A contestant's process failed; one line."""


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    cpu = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    system = platform.platform(aliased=True, terse=True)
    return {"cpu": cpu[0] if cpu else platform.machine(), "cores": os.cpu_count(), "os": system}


def one_line(text: str) -> str:
    """The last line of an error, without addresses and without this machine's paths."""
    line = next((line for line in reversed(text.splitlines()) if line.strip()), "no message")
    return re.sub(r"https?://\S+|(?<![\w.])/[\w./-]+", "...", line.strip())[:200]


def ask(python: Path, request: Request) -> dict[str, Any]:
    """Have a contestant do what the request says, in a process without settings of the user's.

    Raises:
        WorkerError: it did not; says why.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_USER)}
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "request", Path(folder) / "answer"
        question.write_text(json.dumps(request))
        command = [str(python), "-m", "tests.bench.worker", str(question), str(answer)]
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=kept, capture_output=True, text=True,
                timeout=LIMIT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise WorkerError(f"took over {LIMIT} seconds") from None
        if done.returncode < 0:
            raise WorkerError(f"killed by signal {-done.returncode}")
        if done.returncode:
            raise WorkerError(one_line(done.stderr))
        return json.loads(answer.read_text())


def difference(found: Path, reference: Path) -> float:
    """The relative difference of two results, over all their arrays as one vector."""
    with np.load(found) as a, np.load(reference) as b:
        if set(a.files) != set(b.files):
            raise WorkerError(f"returned {sorted(a.files)}, not {sorted(b.files)}")
        error = sum(float(((a[name] - b[name]) ** 2).sum()) for name in b.files)
        relative = (error / sum(float((b[name] ** 2).sum()) for name in b.files)) ** 0.5
    if not math.isfinite(relative):
        raise WorkerError("returned numbers that are not finite")
    return relative


class Race:
    """The contestants, what they run under, and the results so far."""

    def __init__(self, names: Sequence[str], threads: int, out: Path | None, index: str | None):
        self.contestants = {n: importlib.import_module(f"tests.bench.peers.{n}") for n in names}
        self.threads, self.out, self.index = threads, out, index
        self.python: dict[str, Path] = {}
        self.results: dict[str, Any] = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            "python": platform.python_version(),
            "threads": threads,
            "work": TIMED._asdict() | {"test_steps": TEST_STEPS},
            "contestants": {},
            "samples": [],
        }

    def save(self) -> None:
        """Write the results so far, if anywhere."""
        if self.out:
            write_json(self.out, self.results)

    def check(self) -> None:
        """Install every contestant and compare its gradients to the plain loop's."""
        with tempfile.TemporaryDirectory() as folder:
            problem = Path(folder) / "check.npz"
            write_problem(problem, CHECK)
            for name, contestant in self.contestants.items():
                entry = {"title": contestant.TITLE, "library": bool(contestant.INSTALL)}
                entry |= {"orders": list(contestant.ORDERS), "versions": {}, "checks": {}}
                self.results["contestants"][name] = entry
                for order in contestant.ORDERS:
                    entry["checks"][order] = self.check_one(name, order, problem, entry)
                    said = verdict(entry, order)
                    print(f"{contestant.TITLE}, {order} order: {said}", file=sys.stderr, flush=True)
        self.save()

    def check_one(
        self, name: str, order: str, problem: Path, entry: dict[str, Any]
    ) -> dict[str, Any]:
        """One comparison: its difference, or why there is none."""
        found = problem.parent / f"{name}-{order}.npz"
        request = self.request(name, order, problem, CHECK.tasks, CHECK.steps)
        try:
            if name not in self.python:
                self.python[name] = python_of(name, self.contestants[name], self.index)
            entry["versions"] = ask(self.python[name], request | {"gradient": str(found)})[
                "versions"
            ]
            return {"difference": difference(found, problem.parent / f"plain-{order}.npz")}
        except (WorkerError, InstallError, OSError) as error:
            return {"failed": one_line(str(error))}

    def request(self, name: str, order: str, problem: Path, tasks: int, steps: int) -> Request:
        """A check, or a timing that has yet to say whether it is tuned."""
        return {
            "name": name, "order": order, "problem": str(problem), "tasks": tasks, "steps": steps,
            "lr": TIMED.lr, "threads": self.threads, "tuned": True, "gradient": None,
        }  # fmt: skip

    def time(self, rounds: int, widths: Sequence[int], orders: Sequence[str]) -> None:
        """Time all of them in turn, `rounds` times over; only what passed the check's process."""
        with tempfile.TemporaryDirectory() as folder:
            problems = {width: Path(folder) / f"{width}.npz" for width in widths}
            for width, problem in problems.items():
                write_problem(problem, TIMED._replace(channels=width))
            for number in range(rounds):
                for width in widths:
                    for order in orders:
                        self.lap(number, width, order, problems[width])
                        self.save()

    def lap(self, number: int, width: int, order: str, problem: Path) -> None:
        """Everyone's turn at one kind of work, without and with our allocator settings."""
        tasks, steps = (1, TEST_STEPS) if order == "test" else (TIMED.tasks, TIMED.steps)
        for name in self.contestants:
            if "difference" not in self.results["contestants"][name]["checks"].get(order, {}):
                continue
            for tuned in (False, True):
                request = self.request(name, order, problem, tasks, steps) | {"tuned": tuned}
                what = {"contestant": name, "channels": width, "order": order, "tuned": tuned}
                for _ in range(TRIES):
                    sample = self.sample(request, what | {"round": number})
                    if not disturbed(sample):
                        break

    def sample(self, request: Request, what: dict[str, Any]) -> dict[str, Any]:
        """One process's timing, or why there is none; kept either way."""
        try:
            sample = what | ask(self.python[what["contestant"]], request)
        except WorkerError as error:
            sample = what | {"failed": str(error)}
        said = sample.get("failed") or f"{sample['seconds']:.2f} s"
        if disturbed(sample):
            said += f", while others took {sample['others']:.1f} cores"
        where = f"round {what['round'] + 1}, {what['order']} order, Conv4-{what['channels']}"
        settings = f"{'our' if what['tuned'] else 'no'} allocator settings"
        title = self.contestants[what["contestant"]].TITLE
        print(f"{where}, {title}, {settings}: {said}", file=sys.stderr, flush=True)
        self.results["samples"].append(sample)
        return sample


def chosen(only: Sequence[str]) -> list[str]:
    """The contestants asked for, the plain loop always: all others are held against it."""
    return [name for name in NAMES if not only or name in only or name == "plain"]
