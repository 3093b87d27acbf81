"""The campaign itself: what it would notice, that it goes on, and five minutes of it."""

import json
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.conftest import in_full
from tests.faults.campaign import NAMES, carry_out, faults_of, report
from tests.faults.child import forked
from tests.faults.comparing import Progress, compared, numbers_in
from tests.faults.fault import (
    ACCEPTED,
    BAD,
    EQUAL,
    KILL,
    LINE,
    LOST,
    SKIPPED,
    TRACEBACK,
    UNEQUAL,
    Fault,
    Outcome,
    judged_line,
    judged_stop,
)  # fmt: skip
from tests.faults.file_operations import at_operation
from tests.faults.inputs import judged_input
from tests.faults.results import Results
from tests.support.processes import start_python
from zoo.commands.signals import STOP_LINE
from zoo.files import write_json

FAULTS = [Fault("kills", str(number), {}) for number in range(4)]


def campaign(folder, *outcomes, minutes=1.0):
    """One that gives these outcomes, one after the other; returns its status and what was tried."""
    tried, left = [], iter(outcomes)

    def attempt(fault, world):
        tried.append(fault.name)
        return next(left)

    results = Results(folder, seed=0)
    world = SimpleNamespace(folder=folder)
    count = carry_out(FAULTS[: len(outcomes)], {"kills": attempt}, results, world, minutes)
    return report(results, count, ["kills"]), tried


@pytest.mark.parametrize("word", in_full(BAD, UNEQUAL))
def test_what_must_not_happen_gives_status_1_and_is_named(word, tmp_path, capsys):
    status, tried = campaign(tmp_path, Outcome((KILL, EQUAL)), Outcome((KILL, word), "why"))
    said = capsys.readouterr().out
    assert status == 1 and tried == ["0", "1"]
    assert f"{word}: kills 1: why" in said and "| kills | 2 | 2 | 1 |" in said


def test_all_else_gives_status_0(tmp_path, capsys):
    outcomes = [Outcome((KILL, EQUAL)), Outcome((LINE,)), Outcome((ACCEPTED,)), Outcome(())]
    assert campaign(tmp_path, *outcomes)[0] == 0
    assert campaign(tmp_path / "other", *[Outcome((SKIPPED,), "not root")] * 2)[0] == 0
    assert "2 skipped, kills: not root" in capsys.readouterr().out


def test_the_same_command_goes_on(tmp_path, capsys):
    """Behind the last whole line: a kill may have cut the one after it."""
    equal = Outcome((EQUAL,))
    assert campaign(tmp_path, equal, equal)[1] == ["0", "1"]
    (path,) = tmp_path.glob("*.jsonl")
    path.write_text(path.read_text() + '{"part": "kil')
    assert campaign(tmp_path, equal, equal, equal, equal)[1] == ["2", "3"]
    assert [json.loads(line)["name"] for line in path.read_text().splitlines()] == [*"0123"]
    assert campaign(tmp_path, equal, equal, equal, equal)[1] == []
    assert "4 faults in 0 minutes, 0 left" in capsys.readouterr().out


def test_no_fault_is_begun_after_the_time(tmp_path, capsys):
    equal = Outcome((EQUAL,))
    assert campaign(tmp_path, equal, equal, minutes=-1.0) == (0, [])
    assert "0 faults in 0 minutes, 2 left" in capsys.readouterr().out


def test_a_seed_gives_the_same_faults_of_every_part():
    found = faults_of(0, NAMES)
    assert found == faults_of(0, NAMES) != faults_of(1, NAMES)
    assert len({fault[:2] for fault in found}) == len(found)
    assert {fault.part for fault in found} == {*NAMES}
    assert {fault.part for fault in found[: len(found) // 10]} == {*NAMES}
    assert [*map(json.loads, map(json.dumps, (fault.how for fault in found)))] == [
        fault.how for fault in found
    ]


def child(tmp_path, words, act=None):
    return forked(words, tmp_path / "log", act)


def test_what_a_command_says_is_judged(tmp_path):
    ended = child(tmp_path, ["list", "nothing"]).wait()
    assert judged_line(ended).results == judged_input(ended).results == (LINE,)

    def broken():
        raise KeyError("a fault of ours")

    ended = child(tmp_path, ["list"], broken).wait()
    for judged in (judged_line(ended), judged_input(ended), judged_stop(ended, signal.SIGTERM)):
        assert judged.results == (TRACEBACK,)
    ended = child(tmp_path, ["list"]).wait()
    assert ended.status == 0 and "maml" in ended.out
    assert judged_line(ended).results == (LOST,) and judged_input(ended).results == (ACCEPTED,)
    assert judged_line(ended._replace(status=2, err="zoo: one\ntwo\n")).results == (LOST,)
    stopped = ended._replace(status=143, err=STOP_LINE)
    assert judged_stop(stopped, signal.SIGTERM).results == (LINE,)
    assert judged_stop(stopped, signal.SIGINT).results == (LOST,)


def test_a_command_that_hangs_is_killed(tmp_path):
    ended = child(tmp_path, ["list"], lambda: time.sleep(60)).wait(0.3)
    assert ended.status is None and judged_line(ended).results == (LOST,)


def test_a_process_is_killed_at_its_nth_file_operation(tmp_path):
    def act():
        at_operation(tmp_path, 2, lambda: os.kill(os.getpid(), signal.SIGKILL))
        (tmp_path / "0").write_text("")
        (tmp_path / "0").rename(tmp_path / "1")
        (tmp_path / "1").unlink()

    assert child(tmp_path, ["list"], act).wait().status == -signal.SIGKILL
    assert (tmp_path / "1").exists()


def finished(folder, accuracy=0.5, executed=6):
    """A record with its array, as a run leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("metrics", "validation", "tested_update", "failure", "weights")
    record = {
        **dict.fromkeys(names),
        "status": "done",
        "updates": {"total": 6, "executed_by_this_process": executed},
    }
    write_json(folder / "run.json", record)
    np.savez(folder / "run.npz", accuracy=np.array([accuracy]))


def test_numbers_that_differ_or_are_missing_are_noticed(tmp_path):
    for name, accuracy in {"whole": 0.5, "same": 0.5, "other": np.nextafter(0.5, 1)}.items():
        finished(tmp_path / name / "results", accuracy)
    whole, same, other = (numbers_in(tmp_path / name) for name in ("whole", "same", "other"))
    assert compared(whole, same).results == ()
    assert compared(whole, other) == Outcome((UNEQUAL,), "other: run: accuracy")
    assert compared(whole, {}).results == (LOST,)


def test_work_that_is_done_again_is_noticed(tmp_path):
    (tmp_path / "runs" / "run").mkdir(parents=True)
    torch.save({"global_step": 4}, tmp_path / "runs" / "run" / "last.ckpt")
    kept = Progress(tmp_path)
    assert kept.lost_since().results == (), "the run did not go on yet"
    finished(tmp_path / "results", executed=2)
    assert kept.lost_since().results == ()
    finished(tmp_path / "results", executed=3)
    assert kept.lost_since().results == (LOST,)
    kept = Progress(tmp_path)  # killed between record and the checkpoint's end
    assert kept.lost_since().results == ()
    os.utime(tmp_path / "results" / "run.json", (1, 1))
    assert kept.lost_since().results == (LOST,)


@pytest.mark.full
@pytest.mark.slow
def test_five_minutes_of_the_campaign(tmp_path):
    process = start_python(["-m", "tests.faults", "--minutes", "5", "--out", tmp_path])
    out, err = process.communicate(timeout=1200)
    assert process.returncode == 0, out + err
    assert "| all |" in out
