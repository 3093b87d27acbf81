"""How tasks of a meta-batch go together: which are alike, and which of their classes."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from zoo.methods.embedding import cosines


class TaskRelations(nn.Module):
    """A similarity of tasks, the mean over heads of weighted cosines."""

    def __init__(self, features: int, heads: int) -> None:
        """Draw the heads' weights; the random numbers of others stay as they were.

        Args:
            features: D.
            heads: number of weightings.
        """
        super().__init__()
        with torch.random.fork_rng([]):
            self.weights = nn.Parameter(torch.randn(heads, features))

    def forward(self, g: Tensor) -> Tensor:
        """m_ij, the mean over heads of cos(w_k * g_i, w_k * g_j): (T, D) -> (T, T)."""
        weighted = g * self.weights.unsqueeze(1)  # (heads, T, D)
        return cosines(weighted, weighted).mean(0)


def strongest(relations: Tensor, count: int | None) -> tuple[Tensor, Tensor]:
    """The other tasks that each is most related to, and by what weight.

    Negative relations count as none. A task without a related one has no weights.

    Args:
        relations: (T, T).
        count: R, how many others at most; None for all.

    Returns:
        Numbers of tasks (T, R); and weights (T, R) that add up to 1, or to 0.
    """
    tasks = len(relations)
    itself = torch.eye(tasks, dtype=torch.bool, device=relations.device)
    positive = relations.clamp(min=0).masked_fill(itself, -1)
    found, others = positive.topk(min(tasks if count is None else count, tasks - 1))
    total = found.sum(-1, keepdim=True)
    return others, found / total.where(total > 0, 1)


def aligned(ours: Tensor, theirs: Tensor) -> Tensor:
    """Which of their classes stands for each of ours: the pairing of the largest summed cosine.

    Args:
        ours: class means (T, N, D).
        theirs: class means of another task each (T, N, D).

    Returns:
        A permutation of the ways for each task, (T, N).
    """
    table = cosines(ours, theirs).detach().nan_to_num().cpu().numpy()  # of nan the loss tells
    pairs = np.stack([linear_sum_assignment(t, maximize=True)[1] for t in table])
    return torch.from_numpy(pairs).to(ours.device)
