"""Where the time of a learner's updates goes: shares of CPU time by operation, one thread.

`python -m tests.bench.operations LEARNER BENCHMARK [SHOT]` takes three updates of budget `quick`.
Image sets are read from $ZOO_DATA. Shares, unlike seconds, hardly change on a busy machine.
"""

import sys

SHOWN = 8


def main(learner_key: str, benchmark: str, shot: int = 1) -> None:
    """Train a little, then under PyTorch's profiler; print seconds and the largest shares."""
    import time

    import torch
    from torch.profiler import ProfilerActivity, profile

    import zoo

    torch.set_num_threads(1)
    learner, data = zoo.experiment(learner_key, benchmark, shot=shot)
    data.setup("fit")
    loader = iter(data.train_dataloader())
    episodes = [data.on_after_batch_transfer(next(loader), 0) for _ in range(5)]
    optimizer = torch.optim.Adam(learner.parameters())
    learner.train()

    def update(episode: zoo.Episode) -> None:
        optimizer.zero_grad()
        learner.meta_loss(episode).backward()
        optimizer.step()

    for episode in episodes[:2]:
        update(episode)
    started = time.process_time()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for episode in episodes[2:]:
            update(episode)
    seconds = (time.process_time() - started) / 3
    tasks = len(episodes[0].support.x)
    print(f"{learner_key} on {benchmark}: {seconds:.2f} CPU s an update of {tasks} tasks")
    operations = sorted(seen.key_averages(), key=lambda one: -one.self_cpu_time_total)
    total = sum(one.self_cpu_time_total for one in operations)
    for one in operations[:SHOWN]:
        print(f"{one.self_cpu_time_total / total:6.1%}  {one.key}")


if __name__ == "__main__":
    from zoo.runs.tune_cpu import tune_cpu

    tune_cpu()
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
