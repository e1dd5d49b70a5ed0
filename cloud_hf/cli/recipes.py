"""YAML recipes and flags of `pretrain`, `finetune`, `joint` and `study` to dataclasses, over transformers' own parser.

A flag is the name of a field with hyphens, `--learning-rate`; a key of a recipe is the flag without its `--`. `--help`
shows the flags of the command, by what they are about, and those of `TrainingArguments` that are given most;
`--help-all` shows every one.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml
from transformers import HfArgumentParser, TrainingArguments
from transformers.hf_argparser import string_to_bool

from cloud_hf.cli.flags import name_flags, unknown_flag
from cloud_hf.errors import CloudError, one_line
from cloud_hf.training.arguments import CloudTrainingArguments, PretrainArguments, transformers_checks
from cloud_hf.training.finetune_arguments import FinetuneArguments
from cloud_hf.training.joint_arguments import JointArguments

__all__ = ["FINETUNE_GROUPS", "JOINT_GROUPS", "PRETRAIN_GROUPS", "TRAINING_FLAGS", "parse_flags", "parse_recipe"]

PRETRAIN_GROUPS = {
    "strings": ("data", "corpus", "exclude", "validation_fraction", "grammar"),
    "a new model": (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "dropout", "max_position_embeddings",
        "element_descriptors", "site_multiplicity", "pooling",
    ),
    "masks and batches": (
        "mlm_probability", "masking", "segment_probability", "packing", "packing_length", "pad_to_multiple_of",
    ),
    "for the model card": ("data_license", "license"),
}  # fmt: skip
"""Titles of the help to fields of `PretrainArguments`; the others come first."""

FINETUNE_GROUPS = {
    "crystals": ("structure", "skip_failed", "encode_processes", "encode_timeout"),
    "what is learned": (
        "transform", "n_atoms", "debye", "temperature", "second_branch", "loss", "target_weights",
    ),
    "the model": ("pooling", "head_layers", "head_dropout", "layer_lr_decay", "freeze_epochs", "lora_rank"),
    "who is scored on what": (
        "split", "validation_fraction", "folds", "seeds", "refit", "early_stopping", "baselines",
    ),
    "for the model card": ("data_license", "license"),
}  # fmt: skip
"""Titles of the help to fields of `FinetuneArguments`; the others come first."""

JOINT_GROUPS = {
    "rows": ("fold", "all_rows", "repeat_vibrations", "repeat_elements"),
    "the model": ("dropout", "head_layers", "head_dropout"),
    "for the model card": ("data_license", "license"),
}
"""Titles of the help to fields of `JointArguments`; the others come first."""

TRAINING_FLAGS = (
    "output_dir", "num_train_epochs", "max_steps", "per_device_train_batch_size", "learning_rate", "weight_decay",
    "warmup_steps", "seed", "bf16", "matmul_precision", "use_cpu", "save_strategy", "save_steps",
    "resume_from_checkpoint", "push_to_hub", "hub_model_id",
)  # fmt: skip
"""Fields of `TrainingArguments` that the short help shows."""

SHORT_HELP = {
    "output_dir": "Folder for checkpoints and the result.",
    "num_train_epochs": "Passes over the training rows.",
    "max_steps": "Steps instead of epochs.",
    "seed": "Seed of every random choice.",
    "bf16": "Compute in bfloat16.",
    "use_cpu": "Use the CPU even where there is a GPU.",
    "save_steps": "Steps from checkpoint to checkpoint, with --save-strategy steps.",
    "push_to_hub": "Push the result to the Hugging Face Hub.",
    "hub_model_id": "Where to, as owner/name.",
}
"""What the short help says of fields that `TrainingArguments` describes in many lines."""

T = TypeVar("T")


def parse_recipe(command: str, kind: type[T], argv: Sequence[str]) -> tuple[T, CloudTrainingArguments]:
    """Read a YAML recipe (`--config FILE`) and flags; flags win.

    Args:
        command: Name of the command, for the help text.
        kind: Class of the command's own arguments, such as `PretrainArguments`.
        argv: Arguments of the command.

    Raises:
        CloudError: As for `parse_flags`.
    """
    groups: dict[Any, Mapping[str, Sequence[str]]] = {
        PretrainArguments: PRETRAIN_GROUPS,
        FinetuneArguments: FINETUNE_GROUPS,
        JointArguments: JOINT_GROUPS,
    }
    arguments, training = parse_flags(command, (kind, CloudTrainingArguments), argv, groups.get(kind))
    if isinstance(arguments, PretrainArguments):
        arguments.check_source()
    return arguments, training


def parse_flags(
    command: str, kinds: Sequence[Any], argv: Sequence[str], groups: Mapping[str, Sequence[str]] | None = None
) -> tuple[Any, ...]:
    """Read a YAML recipe (`--config FILE`) and flags into dataclasses; flags win.

    Args:
        command: Name of the command, for the help text.
        kinds: Dataclasses of arguments; the first one's docstring describes the command.
        argv: Arguments of the command.
        groups: Titles of the help to names of fields.

    Returns:
        One object of each of `kinds`.

    Raises:
        CloudError: The recipe is missing or is not a flat mapping of argument names to values, or an argument is
            unknown.
        SystemExit: The help was asked for (0), or an argument is missing or has a value that it cannot have (2).
    """
    flags: list[str] = []
    recipes: list[Path] = []
    remaining = [
        part
        for argument in argv
        for part in (argument.split("=", 1) if argument.startswith("--config=") else [argument])
    ]
    while remaining:
        argument = remaining.pop(0)
        if argument != "--config":
            flags.append(argument)
        elif remaining:
            recipes.append(Path(remaining.pop(0)))
        else:
            raise CloudError("--config needs the path of a YAML recipe.")
    parser = _FlagParser(kinds, command, groups or {}, everything="--help-all" in flags)
    name_flags(parser.flags)
    given = [flag for path in recipes for flag in _as_flags(path, parser.flags)]
    problem = unknown_flag(flags, parser.flags)
    if problem:
        raise CloudError(f"{problem} `cloud-hf {command} --help` lists what there is.")
    with transformers_checks():
        *objects, unknown = parser.parse_args_into_dataclasses(
            args=given + flags, look_for_args_file=False, return_remaining_strings=True
        )
    if unknown:
        raise CloudError(f"unknown arguments: {' '.join(unknown)}. `cloud-hf {command} --help` lists what there is.")
    return tuple(objects)


class _FlagParser(HfArgumentParser):
    """transformers' parser of dataclasses, with one spelling of every flag and a help that can be read.

    Attributes:
        flags: Every flag.
    """

    def __init__(
        self, kinds: Sequence[Any], command: str, groups: Mapping[str, Sequence[str]], everything: bool
    ) -> None:
        self.flags: set[str] = {"--config"}
        self._everything = everything
        of_trainer = {entry.name for entry in fields(TrainingArguments)}
        self._hidden = set() if everything else of_trainer - set(TRAINING_FLAGS)
        self._title_of = {name: title for title, names in groups.items() for name in names}
        if any(issubclass(kind, TrainingArguments) for kind in kinds):
            self._title_of |= dict.fromkeys(of_trainer, "training")
        self._sections: dict[str, Any] = {}
        super().__init__(
            tuple(kinds), prog=f"cloud-hf {command}", allow_abbrev=False,
            formatter_class=lambda prog: _Help(prog, max_help_position=30),
            description=f"{kinds[0].__doc__} --config FILE reads arguments from a YAML recipe, whose keys are the "
            "flags without --; flags win over it.",
            epilog="--FLAG false, or --no-FLAG, switches off what is on.",
        )  # fmt: skip
        if any(issubclass(kind, TrainingArguments) for kind in kinds):
            shows = {"action": "help"} if everything else {"action": "store_true", "default": argparse.SUPPRESS}
            self.add_argument("--help-all", help="Show all flags, those of transformers' Trainer too.", **shows)
        required = [f"{_flag(entry.name)} {_metavar(entry.name)}" for entry in fields(kinds[0]) if _is_required(entry)]
        self.usage = " ".join(["%(prog)s [-h] [--config FILE]", *required, "[--FLAG VALUE ...]"])

    def add_argument(self, *names: Any, **kwargs: Any) -> Any:
        """Add a flag with hyphens, in its section of the help."""
        flags = list(dict.fromkeys(name.replace("_", "-") for name in names))
        field = kwargs.get("dest") or flags[0].removeprefix("--").replace("-", "_")
        title = self._title_of.get(field)
        if title == "training" and not self._everything and field in SHORT_HELP:
            kwargs["help"] = SHORT_HELP[field]
        if field in self._hidden or kwargs.get("action") == "store_false":  # the epilog tells of the latter
            kwargs["help"] = argparse.SUPPRESS
        if not kwargs.get("choices") and "action" not in kwargs:
            kwargs["metavar"] = kwargs.get("metavar") or _metavar(field, kwargs)
        if title is not None and title not in self._sections:
            self._sections[title] = self.add_argument_group(title)
        place: Any = super() if title is None else self._sections[title]
        action = place.add_argument(*flags, **kwargs)
        self.flags.update(action.option_strings)
        return action


class _Help(argparse.HelpFormatter):
    """Help that names defaults as they would be given, but none where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if default is None or default is False or default in ("", [], argparse.SUPPRESS):
            return action.help
        return f"{action.help} (default: {' '.join(map(_given, default if isinstance(default, list) else [default]))})"


def _given(value: Any) -> str:
    """A value as the command line takes it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _metavar(name: str, kwargs: Mapping[str, Any] | None = None) -> str:
    kind = (kwargs or {}).get("type")
    if kind in (int, float):
        return "N" if kind is int else "X"
    if kind is string_to_bool:
        return "true|false"
    return name.rpartition("_")[2].upper()


def _is_required(entry: Field[Any]) -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING


def _as_flags(path: Path, known: set[str]) -> list[str]:
    """The keys and values of a recipe as flags."""
    try:
        recipe: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CloudError(f"the recipe cannot be read ({error.strerror}).", source=str(path)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CloudError(f"the recipe is not YAML ({one_line(error)}).", source=str(path)) from error
    if not isinstance(recipe, dict):
        reason = "a recipe is a mapping of flags without -- to values, e.g. 'learning-rate: 5e-4'."
        raise CloudError(reason, source=str(path))
    problem = unknown_flag([f"--{name}" for name in recipe], known)
    if problem:
        raise CloudError(f"{problem} The keys of a recipe are the flags without --.", source=str(path))
    flags: list[str] = []
    for name, value in recipe.items():
        if value is not None:
            flags += [f"--{name}", *(str(item) for item in (value if isinstance(value, list) else [value]))]
    return flags
