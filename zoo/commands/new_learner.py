"""The command ``zoo new-learner``: writes a learner's file that runs and says what to fill in."""

import argparse
import keyword
import re
import shlex
from pathlib import Path
from string import Template

from zoo.errors import UsageError
from zoo.files import check_folder_of, write_text
from zoo.origin import checkout_root
from zoo.registry import ALL, learners

SKELETON = Template(
    '''"""Fill in: TITLE (AUTHORS, VENUE YEAR). https://arxiv.org/abs/0000.00000

Departures from the paper:

1. Fill in: what is different here, and in which section or table the paper has it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import Episode, Learner, register


@register("$key")
class $name(Learner):
    """Fill in: what it does, in one sentence of plain words."""

    title = "$name"  # fill in: what tables call it
    family = "metric"  # fill in: metric, gradient, memory, ...
    # Fill in: traits that are not zoo.learner.Learner's; they are promises.

    def __init__(
        self, backbone: nn.Module, way: int, *, scale: float = 1.0, outer_lr: float = 1e-3
    ) -> None:
        """Defaults are for mini-ImageNet.

        Args:
            backbone: from images to D features.
            way: N of the test episodes.
            scale: fill in: what each hyperparameter is [fill in: where it is printed].
            outer_lr: of Adam [fill in: where it is printed].
        """
        super().__init__(backbone, way, batch_norm="running", outer_lr=outer_lr)
        self.scale = scale
        self.joint_tasks = True  # one batch norm over the meta-batch
        self.embeds_alone = True  # running statistics: the test embeds every image once

    def forward(self, episode: Episode) -> Tensor:
        """Fill in: the paper's table of contents, a function for each equation.

        Returns:
            Logits (T, N*Q, N).
        """
        x = torch.cat([episode.support.x, episode.query.x], dim=1)
        z = self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # (T, N*K + N*Q, D)
        z_support, z_query = z.tensor_split([episode.support.x.shape[1]], dim=1)
        c = class_means(z_support, episode.support.y, episode.way)
        return -self.scale * torch.cdist(z_query, c)


def class_means(z: Tensor, y: Tensor, way: int) -> Tensor:
    """Fill in: c_k, the mean of the support of class k (eq. 1).

    z (T, N*K, D), y (T, N*K) -> c (T, N, D)
    """
    members = F.one_hot(y, way).to(z).mT  # (T, N, N*K)
    return members @ z / members.sum(-1, keepdim=True)
'''
)
IMPORTED = ("Episode", "F", "Learner", "Tensor")  # names that the class may not have


def write_skeleton(key: str, path: Path) -> None:
    """Write the file of a new learner.

    Raises:
        UsageError: the key is malformed or taken, or the file exists or cannot be written.
    """
    name = "".join(word.capitalize() for word in key.split("_"))
    if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", key) or keyword.iskeyword(key):
        raise UsageError(
            f"the name {key!r}: expected small letters, digits and _, beginning with a letter, "
            "such as my_learner, and not a keyword of Python"
        )
    if key in learners.entries:
        raise UsageError(f"{key!r} is taken already, by {learners.entries[key].module}")
    if key == ALL or name in IMPORTED:
        raise UsageError(f"{key!r} means something else already; choose another name")
    if path.suffix != ".py":
        raise UsageError(f"--to {path}: expected a file that ends in .py")
    if path.exists():
        raise UsageError(f"{path} exists already; delete it, or choose another with --to")
    check_folder_of(path, "--to")
    try:
        write_text(path, SKELETON.substitute(key=key, name=name))
    except OSError as error:
        raise UsageError(f"--to {path}: {error.strerror}; choose a file you may write") from None


def new_learner_command(options: argparse.Namespace) -> int:
    """``zoo new-learner``: write a file that runs, and say what comes next.

    In a checkout the file goes into baselines/, where it is registered. If the zoo is installed,
    it goes into the working folder and is a plug-in.
    """
    path: Path = options.to or Path(f"{options.name}.py")
    plugin = f" --plugin {shlex.quote(str(path))}"
    if options.to is None and (root := checkout_root()) is not None:
        path, plugin = root / "baselines" / path, ""
    write_skeleton(options.name, path)
    print(f"{path} is a learner that runs: fill in what it marks with 'fill in'. Then")
    print(f"  python -m zoo check {options.name}{plugin}")
    print(f"  python -m zoo run {options.name} glyphs{plugin}")
    return 0
