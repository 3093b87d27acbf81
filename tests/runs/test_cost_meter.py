"""What updates cost: nothing else counts, and nothing that was there before."""

import json
import mmap

import numpy as np
import pytest
import torch

import zoo.runs.checkpoints
import zoo.runs.cost_meter
from tests.runs.test_run import SMALL, KilledError, kill_at, plan
from zoo.runs.cost_meter import CostMeter, anonymous_memory
from zoo.runs.tune_cpu import tune_cpu

MEGA = 10**6
ROUGHLY = 20 * MEGA
said = pytest.mark.skipif(anonymous_memory("VmHWM") is None, reason="the system does not say")


def take(megabytes: int) -> None:
    """In pieces of one megabyte, as far as they go into malloc's own memory; and give back."""
    pieces = [np.ones(MEGA // 8) for _ in range(megabytes)]
    del pieces


@said
def test_the_peak_is_of_what_was_taken_between():
    tune_cpu()  # malloc keeps what is given back: that must not count
    take(300)
    meter = CostMeter()
    for megabytes in (100, 50):
        meter.zero(False)
        meter.start()
        take(megabytes)
        meter.stop()
        take(400)
        meter.start()
        take(10)
        meter.stop()
        assert meter.peak == pytest.approx(megabytes * MEGA, abs=ROUGHLY)
        meter.peak = None


@said
def test_what_was_given_back_counts_too():
    meter = CostMeter()
    meter.zero(False)
    meter.start()
    with mmap.mmap(-1, 100 * MEGA, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:: mmap.PAGESIZE] = bytes(len(range(0, 100 * MEGA, mmap.PAGESIZE)))
    meter.stop()
    assert meter.peak == pytest.approx(100 * MEGA, abs=ROUGHLY)


@said
def test_pages_of_files_do_not_count(tmp_path):
    size = 200 * MEGA
    np.zeros(size, np.uint8).tofile(tmp_path / "images")
    meter = CostMeter()
    meter.zero(False)
    meter.start()
    images = np.memmap(tmp_path / "images", np.uint8, "r")
    total = images.sum()
    meter.stop()
    assert total == 0 and len(images) == size  # it was read, and is still there
    assert meter.peak is not None and meter.peak < ROUGHLY


def test_the_clock_runs_between_alone(monkeypatch):
    now = iter([10.0, 12.0, 20.0, 23.0, 30.0, 31.0])
    monkeypatch.setattr(zoo.runs.cost_meter.time, "monotonic", lambda: next(now))
    meter = CostMeter()
    for _ in range(2):
        meter.start()
        meter.stop()
        meter.stop()
    assert meter.seconds == 5
    later = CostMeter()
    later.load(meter.state())
    later.resume()
    later.stop()
    assert later.seconds == 6


def test_where_the_system_does_not_say(monkeypatch, tmp_path):
    monkeypatch.setattr(zoo.runs.cost_meter, "PROC", tmp_path / "none")
    meter = CostMeter()
    meter.zero(False)
    meter.start()
    meter.stop()
    assert meter.peak is None and meter.seconds >= 0


def test_a_record_has_what_its_updates_cost(stores, tmp_path):
    run = plan(tmp_path, stores, flags={**SMALL, "validations": 6})
    record = run.execute(progress=False)
    assert 0 < record["seconds"]["updates"] < record["seconds"]["train"]
    size = sum(p.numel() for p in run.learner.parameters())
    assert record["learned_parameters"] == record["parameters"] == size
    if anonymous_memory("VmHWM") is not None:
        assert MEGA < record["memory"]["updates"] < 10**9


def test_nothing_learned_costs_nothing(stores, tmp_path):
    flags = {"test_episodes": 4, "query": 3, "pretrained_from": None}
    record = plan(tmp_path, stores, "pretrained", flags=flags).execute(progress=False)
    assert record["seconds"]["updates"] == 0 and record["memory"]["updates"] is None
    assert record["learned_parameters"] == 0 < record["parameters"]


@pytest.mark.parametrize("old", [False, True])
def test_a_resumed_run_counts_each_update_once(old, stores, tmp_path, monkeypatch):
    """Each stretch between start and stop takes a second here; of an old checkpoint no one knows.

    Saves are made after each update, so that a stretch is an update, or nothing.
    """
    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)

    class Ticking(CostMeter):
        def stop(self):
            if self._start is not None:
                self._start, self.seconds = None, self.seconds + 1
                self.peak = 7

    monkeypatch.setattr(zoo.runs.checkpoints, "CostMeter", Ticking)
    flags = {**SMALL, "updates": 6, "validations": 1}
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "on_train_batch_end", 3)
        plan(tmp_path, stores, flags=flags).execute(progress=False)
    run = plan(tmp_path, stores, flags=flags)
    if old:
        path = run.workspace.runs / run.name / "last.ckpt"
        checkpoint = torch.load(path, weights_only=False)
        for state in checkpoint["callbacks"].values():
            state.pop("meter", None)
        torch.save(checkpoint, path)
    record = run.execute(progress=False)
    assert record["seconds"]["updates"] == (None if old else 7)  # the end is a stretch of its own
    assert record["memory"]["updates"] == 7
    assert json.loads(run.record_path.read_text()) == record


def test_cpu_seconds_are_of_this_process_and_others_of_the_rest(monkeypatch):
    own = iter([1.0, 4.0])
    machine = iter([(10.0, 100.0), (18.0, 120.0)])  # busy, and all cores
    monkeypatch.setattr(zoo.runs.cost_meter.time, "process_time", lambda: next(own))
    monkeypatch.setattr(zoo.runs.cost_meter, "machine_seconds", lambda: next(machine))
    meter = CostMeter()
    meter.start()
    meter.stop()
    assert meter.cpu == 3.0
    assert meter.others == pytest.approx((8 - 3) / 20)
    later = CostMeter()
    later.load(meter.state())
    assert (later.cpu, later.others) == (meter.cpu, meter.others)


def test_a_checkpoint_from_before_there_were_cpu_seconds():
    meter = CostMeter()
    meter.load({"seconds": 3.0, "peak": None})
    assert meter.others is None and np.isnan(meter.cpu)


def test_the_machine_says_how_busy_it_is():
    before = zoo.runs.cost_meter.machine_seconds()
    if before is None:
        pytest.skip("the system does not say")
    busy, every = before
    assert 0 < busy < every
