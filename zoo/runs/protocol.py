"""The settings that every learner's runs have, beside those of its constructor."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Protocol:
    """How a run trains and is tested: every learner has these settings.

    Args:
        backbone: a backbone with options, such as conv4[channels=32].
        train_way: N of the training episodes; null for the test way.
        train_shot: K of the training episodes; null for the test shot.
        train_query: Q of the training episodes; null for the test's.
        query: Q of the validation and test episodes; null for the benchmark's.
        meta_batch: T, tasks of one update.
        sampler: plain, training episodes as they are drawn; or adaptive, chosen from four times as
            many by diversity, entropy and difficulty of their features (Wang et al., IJCV 2024).
        superclasses: how many superclasses the classes of an update's tasks are from; null for all.
        micro_batch: tasks computed at once; null for what suits the learner and the device.
        updates: outer-loop updates.
        validations: how often validation episodes are run, at equal distances; the next smaller
            number that divides the updates.
        val_episodes: episodes of each validation.
        test_episodes: episodes of the test.
    """

    backbone: str = "conv4"
    train_way: int | None = None
    train_shot: int | None = None
    train_query: int | None = None
    query: int | None = None
    meta_batch: int = 4
    sampler: str = "plain"
    superclasses: int | None = None
    micro_batch: int | None = None
    updates: int = 60000
    validations: int = 10
    val_episodes: int = 200
    test_episodes: int = 1000


@dataclass(frozen=True)
class Pretraining:
    """Where the backbone's first weights come from: settings of runs that ask for a pre-training.

    Args:
        pretrained_from: null for random weights; pretrain for a pre-training on all base classes,
            done once for all runs that ask for the same; or the name of one that lies below runs/.
        pretrain_updates: of the pre-training.
        pretrain_batch: images of one update.
        pretrain_lr: learning rate, of SGD with Nesterov momentum 0.9.
        pretrain_weight_decay: likewise.
        pretrain_drops: shares of the updates after which the rate becomes a tenth.
        pretrain_augment: any of crop, jitter and flip; nothing for none.
        pretrain_head: linear or cosine, what classifies the base classes.
        pretrain_validations: how often nearest prototypes are tried on validation episodes.
        pretrain_val_episodes: episodes of each validation, 5-way 5-shot.
        pretrain_seed: of its weights and batches; runs of all seeds share it.
    """

    pretrained_from: str | None = None
    pretrain_updates: int = 200000
    pretrain_batch: int = 128
    pretrain_lr: float = 0.01
    pretrain_weight_decay: float = 0.0005
    pretrain_drops: str = "0.5 0.75 0.875 0.95"
    pretrain_augment: str = "crop jitter flip"
    pretrain_head: str = "linear"
    pretrain_validations: int = 20
    pretrain_val_episodes: int = 200
    pretrain_seed: int = 0


SHARED_SETTINGS = (Protocol, Pretraining)
SETTINGS_ADDED_LATER = {name: getattr(Protocol, name) for name in ("sampler", "superclasses")}
SHARED_SETTING_NAMES = {f.name for kind in SHARED_SETTINGS for f in fields(kind)}
PRETRAIN = "pretrain"  # its name, and how the names of its settings begin
POSITIVE_SETTINGS = {
    f.name
    for kind in SHARED_SETTINGS
    for f in fields(kind)
    if not isinstance(f.default, float | str)
} - {"updates", "pretrain_seed"}
