"""`cloud-hf pretrain`, `finetune` and `joint`: recipes and flags to the training functions."""

from collections.abc import Callable, Sequence

from cloud_hf.cli.output import file_errors

__all__ = ["TRAINING_COMMANDS"]


def pretrain(argv: Sequence[str]) -> int:
    """Pre-train by masked-language modelling on SCOPE strings."""
    from cloud_hf.cli.recipes import parse_recipe
    from cloud_hf.training.arguments import PretrainArguments
    from cloud_hf.training.pretrain import pretrain

    with file_errors():
        pretrain(*parse_recipe("pretrain", PretrainArguments, argv))
    return 0


def finetune(argv: Sequence[str]) -> int:
    """Fine-tune a checkpoint on labelled crystals."""
    from cloud_hf.cli.recipes import parse_recipe
    from cloud_hf.training.finetune import finetune
    from cloud_hf.training.finetune_arguments import FinetuneArguments

    with file_errors():
        report = finetune(*parse_recipe("finetune", FinetuneArguments, argv))
        if report:  # only one of several processes has one
            print(report)
    return 0


def joint(argv: Sequence[str]) -> int:
    """Train one model of all heads on the labels of many tables."""
    from cloud_hf.cli.recipes import parse_recipe
    from cloud_hf.training.joint import train_joint
    from cloud_hf.training.joint_arguments import JointArguments

    with file_errors():
        report = train_joint(*parse_recipe("joint", JointArguments, argv))
        if report:  # only one of several processes has one
            print(report)
    return 0


TRAINING_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "pretrain": pretrain,
    "finetune": finetune,
    "joint": joint,
}
"""Commands whose arguments, hundreds with `TrainingArguments`, are parsed by transformers' own parser."""
