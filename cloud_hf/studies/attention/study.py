"""`cloud-hf study attention`: what the encoder looks at and what a head's output depends on, against two controls."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import set_seed

from cloud_hf import CloudForDebye, CloudForMaskedLM, CloudForPropertyRegression
from cloud_hf.checkpoints.bundled import bundled_heads, bundled_model
from cloud_hf.checkpoints.reading import loading, read_config
from cloud_hf.checkpoints.registration import AutoTokenizer
from cloud_hf.data.inputs import encode_items, table_items
from cloud_hf.data.tables import read_table, write_table
from cloud_hf.errors import CheckpointError, StudyError
from cloud_hf.scope import ScopeEncoder
from cloud_hf.studies.attention.figures import figures
from cloud_hf.studies.attention.integrated_gradients import BASELINES, attribute, outputs_of
from cloud_hf.studies.attention.shares import attention_shares
from cloud_hf.studies.attention.summary import summary
from cloud_hf.studies.common.arguments import StudyArguments
from cloud_hf.studies.common.fitting import encoder_folder
from cloud_hf.studies.common.folder import FAILURES_FILE, StudyFolder, digest_of
from cloud_hf.studies.common.report import finish
from cloud_hf.training.arguments import in_range

__all__ = ["Arguments", "run"]


MODELS: dict[str, Any] = {
    model.__name__: model for model in (CloudForMaskedLM, CloudForPropertyRegression, CloudForDebye)
}


@dataclass
class Arguments(StudyArguments):
    """Measure the attention from [CLS] and between classes of words, and attribute predictions to classes of words.

    Every share stands beside that of models of the same architecture with random weights and beside the share of the
    words that the class has, which uniform attention would give. Heads are attributed by integrated gradients, whose
    sum is checked, and by masking all words of a class.
    """

    model: list[str] = field(
        default_factory=lambda: ["default", "heat_capacity"],
        metadata={
            "help": "Checkpoints: 'default', the masked language model inside the package; the name of a head "
            "inside the package; 'scratch', random weights; folders; or Hub ids."
        },
    )
    n_crystals: int = field(default=1000, metadata={"help": "Distinct strings, drawn by the seed, for attention."})
    n_gradients: int = field(default=100, metadata={"help": "Of these the first ones, for integrated gradients."})
    steps: int = field(default=32, metadata={"help": "Points of the integrated gradients' path."})
    baseline: str = field(
        default="mask",
        metadata={"help": "Where the path begins: all words masked, or padding.", "choices": list(BASELINES)},
    )
    targets: list[str] = field(
        default_factory=list,
        metadata={"help": "Targets of heads to attribute, by name; none: the first one of each head."},
    )
    controls: int = field(default=3, metadata={"help": "Models with random weights for attention; gradients use one."})

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        in_range("n_crystals", self.n_crystals, 2, 1e7)
        in_range("n_gradients", self.n_gradients, 2, self.n_crystals)
        in_range("steps", self.steps, 2, 4096)
        in_range("controls", self.controls, 1, 100)
        if self.baseline not in BASELINES:
            raise StudyError(f"--baseline must be one of {', '.join(BASELINES)}, not {self.baseline!r}.")
        if not self.model or len(set(self.model)) != len(self.model):
            raise StudyError("--model names no checkpoint, or one twice.")


@dataclass(frozen=True)
class Sample:
    """Strings that were drawn, and rows of the tables that were read for them but have none."""

    scopes: list[str]
    failures: pd.DataFrame


def run(arguments: Arguments) -> Path:
    """Measure the models that are missing, and write results, report and pictures.

    Returns:
        Path of the report.

    Raises:
        CheckpointError: A model that cannot be loaded, or has no such target.
        StudyError: Too few strings, or a folder of something else.
        TableError: A table that cannot be read.
    """
    names = ("n_crystals", "n_gradients", "steps", "baseline", "targets", "seed")
    settings: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    settings["tables"] = sorted(digest_of(path) for path in arguments.data)
    paths = {name: _path(name) for name in arguments.model}
    configs = {name: read_config(path) for name, path in paths.items()}
    _check_targets(arguments, configs)
    folder = StudyFolder(arguments.out, "attention", settings)
    samples: dict[str, Sample] = {}
    models: dict[str, Any] = {}
    for name, path in (bar := tqdm(paths.items(), desc="attention", unit="model", disable=None)):
        bar.set_postfix_str(name)
        encoder = ScopeEncoder.from_config(configs[name])
        longest = configs[name].max_position_embeddings
        key = f"{encoder.settings}, {longest}"
        if key not in samples:
            samples[key] = _sample(arguments, encoder, longest)
        shown = Path(name).name
        if shown in models:
            shown = f"{shown} ({len(models) + 1})"
        models[shown] = _measure(arguments, folder, name, path, samples[key].scopes)
    failures = pd.concat([sample.failures for sample in samples.values()])
    if len(failures):
        write_table(failures, folder.path / FAILURES_FILE)
    first = next(iter(samples.values()))
    results: dict[str, Any] = {
        "rows": f"{len(first.scopes):,} distinct strings of {', '.join(Path(path).name for path in arguments.data)}, "
        f"drawn with seed {arguments.seed}",
        "n": len(first.scopes),
        "n_gradients": min(arguments.n_gradients, len(first.scopes)),
        "steps": arguments.steps,
        "baseline": arguments.baseline,
        "rows_without_a_string": len(failures),
        "models": {name: summary(cells) for name, cells in models.items()},
    }
    return finish(folder, results, figures(results["models"]))


def _path(name: str) -> str:
    """Folder or Hub id of a model."""
    heads = bundled_heads()
    if name in heads:
        return bundled_model(name)
    if name not in ("default", "scratch") and "/" not in name and not Path(name).exists():
        raise CheckpointError(
            f"--model {name}: neither a folder nor a Hub id 'owner/name'; inside the package there are default, "
            f"scratch, {', '.join(heads)}."
        )
    return str(encoder_folder(name))


def _check_targets(arguments: Arguments, configs: dict[str, Any]) -> None:
    known = [target for config in configs.values() for target in config.target_names or []]
    for target in arguments.targets:
        if target not in known:
            raise CheckpointError(f"--targets {target}: no such target; the models have {', '.join(known) or 'none'}.")


def _sample(arguments: Arguments, encoder: ScopeEncoder, longest: int) -> Sample:
    """Encode rows in a random order until there are enough distinct strings; rows without one are kept apart."""
    tables = [read_table(path) for path in arguments.data]
    rows = [(table, row) for table, content in enumerate(tables) for row in range(len(content))]
    order = np.random.default_rng(arguments.seed).permutation(len(rows))
    scopes: dict[str, None] = {}
    failures: list[tuple[str, str]] = []
    piece = max(arguments.n_crystals, 1)
    for start in range(0, len(order), piece):
        chosen = [rows[index] for index in order[start : start + piece]]
        for table, path in enumerate(arguments.data):
            part = tables[table].iloc[sorted(row for which, row in chosen if which == table)]
            for item in encode_items(table_items(part, path), encoder, *arguments.workers):
                reason = None if item.error is None else item.error.explanation
                if reason is None and len(str(item.scope).split()) + 2 > longest:
                    reason = f"the string has more than {longest} tokens"
                if reason is None:
                    scopes[str(item.scope)] = None
                else:
                    failures.append((item.source, reason))
        if len(scopes) >= arguments.n_crystals:
            break
    if len(scopes) < 2:
        first = f"; the first: {': '.join(failures[0])}" if failures else ""
        raise StudyError(f"fewer than two rows have a usable SCOPE string{first}", source=", ".join(arguments.data))
    drawn = np.random.default_rng(arguments.seed).permutation(sorted(scopes))[: arguments.n_crystals]
    return Sample([str(scope) for scope in drawn], pd.DataFrame(failures, columns=["source", "reason"]))


def _measure(arguments: Arguments, folder: StudyFolder, name: str, path: str, scopes: Sequence[str]) -> dict[str, Any]:
    """Cells of one model: attention, that of the controls, attributions of its targets and of a control's."""
    config = read_config(path)
    label = f"{Path(name).name}-{digest_of(path) if Path(path).is_dir() else config._commit_hash}"
    with loading(path):
        tokenizer = AutoTokenizer.from_pretrained(path)

    def attention(seed: int | None) -> dict[str, Any]:
        shares = attention_shares(_load(path, seed, "eager").bert, tokenizer, scopes)
        return {
            "from_cls": _plain(shares.from_cls.mean(axis=0)),
            "error_from_cls": _plain((shares.from_cls - shares.expected[:, None, None]).std(axis=0)
                                     / np.sqrt(len(scopes))),
            "between": [[[[None if np.isnan(share) else round(share, 6) for share in row] for row in head]
                         for head in layer] for layer in shares.between.tolist()],
            "by_layer": _plain(shares.from_cls.mean(axis=2)),
            "expected": _plain(shares.expected),
        }  # fmt: skip

    cells: dict[str, Any] = {"attention": folder.cell(f"{label}/attention", lambda: attention(None))}
    cells["controls"] = [
        folder.cell(f"{label}/random_{seed}", lambda seed=seed: attention(seed))  # type: ignore[misc]
        for seed in range(arguments.seed, arguments.seed + arguments.controls)
    ]
    outputs = outputs_of(config)
    chosen = [
        candidate for candidate in outputs if (config.target_names or [])[candidate.column] in arguments.targets
    ] or outputs[:1]
    cells["gradients"] = []
    for output in chosen:

        def gradients(seed: int | None, output: Any = output) -> dict[str, Any]:
            attributions = attribute(_load(path, seed, "sdpa"), tokenizer, scopes[: arguments.n_gradients], output,
                              arguments.steps, arguments.baseline)  # fmt: skip
            return {"output": output.name, "unit": output.unit, "completeness_error": attributions.error,
                    "signed": _plain(attributions.signed), "absolute": _plain(attributions.absolute),
                    "channels": _plain(attributions.channels), "change": _plain(attributions.change),
                    "occluded": _plain(attributions.occluded)}  # fmt: skip

        place = f"{label}/gradients/{output.column}"
        cells["gradients"].append(
            {
                "trained": folder.cell(f"{place}/trained", lambda: gradients(None)),
                "random": folder.cell(f"{place}/random_{arguments.seed}", lambda: gradients(arguments.seed)),
            }
        )
    return cells


def _load(path: str, seed: int | None, attention: str) -> Any:
    """Load the weights, or make random ones of the same architecture (one member) from a seed."""
    config = read_config(path)
    kind = MODELS.get((config.architectures or [""])[0])
    if kind is None:
        raise CheckpointError(
            f"a checkpoint of {', '.join(config.architectures or ['unknown class'])}; give one of {', '.join(MODELS)}.",
            source=path,
        )
    if seed is None:
        with loading(path):
            return kind.from_pretrained(path, attn_implementation=attention).eval()
    set_seed(seed)
    config.n_members = 1
    model: Any = kind(config).eval()
    model.set_attn_implementation(attention)
    return model


def _plain(values: NDArray[np.float64]) -> Any:
    return np.round(values, 6).tolist()
