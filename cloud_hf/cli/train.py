"""`cloud-hf pretrain`, `finetune` and `joint`: recipes and flags to the training functions."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from cloud_hf.errors import CloudError

__all__ = ["TRAINING_COMMANDS"]


def pretrain(argv: Sequence[str]) -> int:
    """Pre-train by masked-language modelling on SCOPE strings."""
    from cloud_hf.cli.recipes import parse_recipe
    from cloud_hf.training.arguments import PretrainArguments
    from cloud_hf.training.pretrain import pretrain

    with _argument_errors():
        pretrain(*parse_recipe("pretrain", PretrainArguments, argv))
    return 0


def finetune(argv: Sequence[str]) -> int:
    """Fine-tune a checkpoint on labelled crystals."""
    from cloud_hf.cli.recipes import parse_recipe
    from cloud_hf.training.finetune import finetune
    from cloud_hf.training.finetune_arguments import FinetuneArguments

    with _argument_errors():
        report = finetune(*parse_recipe("finetune", FinetuneArguments, argv))
        if report:  # only one of several processes has one
            print(report)
    return 0


def joint(argv: Sequence[str]) -> int:
    """Train one model of all heads on the labels of many tables."""
    from cloud_hf.cli.recipes import parse_recipe
    from cloud_hf.training.joint import train_joint
    from cloud_hf.training.joint_arguments import JointArguments

    with _argument_errors():
        report = train_joint(*parse_recipe("joint", JointArguments, argv))
        if report:  # only one of several processes has one
            print(report)
    return 0


@contextmanager
def _argument_errors() -> Iterator[None]:
    """Values that transformers or the model refuse, and files that cannot be read or written, end in one line."""
    try:
        yield
    except CloudError:
        raise
    except (ValueError, OSError) as error:
        raise CloudError(" ".join(str(error).split())) from error


TRAINING_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "pretrain": pretrain,
    "finetune": finetune,
    "joint": joint,
}
"""Commands whose arguments, hundreds with `TrainingArguments`, are parsed by transformers' own parser."""
