"""How likely a string is under a masked language model: strings of another kind than it learned stand out.

The pseudo-log-likelihood of a string is the mean of ln P(word | all other words), each word masked in turn (Salazar et
al., ACL 2020), here over the words of some classes, in nats per word. Below a threshold, by default the 1st percentile
of strings of the training distribution that the model has not seen, a crystal counts as out of distribution: errors
and intervals measured on other crystals need not hold for it.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cloud_hf.checkpoints.bundled import bundled_likelihood
from cloud_hf.checkpoints.reading import loading, read_config, refuse_missing_weights
from cloud_hf.data.tables import read_table
from cloud_hf.data.token_classes import TOKEN_CLASSES, TokenClasses
from cloud_hf.errors import CheckpointError, TableError, one_line
from cloud_hf.files import write_json

if TYPE_CHECKING:
    from cloud_hf.inference.likelihood_head import LikelihoodHead

__all__ = ["LIKELIHOOD_FILE", "LikelihoodSettings", "StringLikelihood", "distinct_strings", "measure_likelihoods"]

LIKELIHOOD_FILE = "likelihood.json"
"""Lies beside the weights of the masked language model."""

_REMEDY = "Make it again with `cloud-hf likelihood --save`."

MOST_TOKENS = 1 << 15
"""Tokens in a forward pass."""

SHARE = 0.01
"""Share of the strings from inside the distribution that lie below the threshold."""

RESAMPLES = 1000
"""Of the bootstrap of the AUROC."""


@dataclass(frozen=True)
class LikelihoodSettings:
    """What `likelihood.json` holds.

    Attributes:
        threshold: Strings with a smaller log-likelihood (nats per word) are out of distribution; None: not known.
        share: Share of the strings inside the distribution that lie below it.
        n_rows: Strings that the threshold was taken of.
        words: Classes of the words that count, some of `TOKEN_CLASSES`.
    """

    threshold: float | None = None
    share: float = 0.01
    n_rows: int = 0
    words: tuple[str, ...] = ("elements",)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `likelihood.json` into a folder and return its path."""
        path = Path(folder) / LIKELIHOOD_FILE
        write_json(asdict(self), path, indent=2)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "LikelihoodSettings":
        """Read a `likelihood.json`.

        Raises:
            CheckpointError: It cannot be read, or holds something else.
        """
        try:
            settings = cls(**json.loads(Path(path).read_text(encoding="utf-8")))
            settings = cls(settings.threshold, settings.share, settings.n_rows, tuple(settings.words))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"cannot be read ({one_line(error)}). {_REMEDY}", source=str(path)) from error
        if not settings.words or set(settings.words) - set(TOKEN_CLASSES):
            raise CheckpointError(f"words must be some of {', '.join(TOKEN_CLASSES)}. {_REMEDY}", source=str(path))
        return settings


class StringLikelihood:
    """Pseudo-log-likelihoods of SCOPE strings.

    Args:
        model: A `CloudForMaskedLM`.
        tokenizer: Its tokenizer.
        settings: Threshold and classes of the words that count.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: LikelihoodSettings | None = None) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.settings = settings or LikelihoodSettings()
        self._classes = TokenClasses(tokenizer)
        self._counted = [TOKEN_CLASSES.index(name) for name in self.settings.words]

    @classmethod
    def load(cls, folder: str, words: Sequence[str] | None = None) -> "StringLikelihood":
        """Load a pre-trained `CloudForMaskedLM` with its tokenizer and, if it is there, its `likelihood.json`.

        Args:
            folder: Folder or Hub id.
            words: Classes of the words that count instead of the recorded ones; then there is no threshold.

        Raises:
            CheckpointError: No such checkpoint, or it is no masked language model.
        """
        from cloud_hf.checkpoints.registration import AutoModelForMaskedLM, AutoTokenizer  # takes seconds

        config = read_config(folder)
        if "CloudForMaskedLM" not in (config.architectures or []):
            raise CheckpointError(
                f"{', '.join(config.architectures or ['a checkpoint'])} gives no likelihoods; name a CloudForMaskedLM, "
                "such as `cloud-hf pretrain` writes.",
                source=folder,
            )
        with loading(folder):
            model, loaded = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        refuse_missing_weights(folder, loaded)
        path = Path(folder) / LIKELIHOOD_FILE
        settings = LikelihoodSettings.load(path) if path.is_file() else LikelihoodSettings()
        return cls(model, tokenizer, settings if words is None else LikelihoodSettings(words=tuple(words)))

    @classmethod
    def bundled(cls) -> "StringLikelihood":
        """Load the masked language model inside the package.

        Raises:
            CheckpointError: This version ships none.
        """
        folder = bundled_likelihood()
        if folder is None:
            raise CheckpointError(
                "no masked language model ships with this version of the package; install one that has it."
            )
        return cls.load(folder)

    def __call__(self, scopes: Sequence[str], progress: bool = False) -> NDArray[np.float64]:
        """Return the pseudo-log-likelihoods in nats per word, shape (len(scopes),); NaN where no word counts.

        Args:
            scopes: SCOPE strings of the model's grammar.
            progress: Show a progress bar.

        Raises:
            UnknownWordError, ScopeTooLongError: A string that the model cannot read.
        """
        if not len(scopes):
            return np.zeros(0)
        return self.of_ids([np.array(row) for row in self.tokenizer(list(scopes))["input_ids"]], progress)

    def of_ids(self, ids: Sequence[NDArray[np.int64]], progress: bool = False) -> NDArray[np.float64]:
        """Return the pseudo-log-likelihoods of strings that were tokenised already; see `__call__`.

        Args:
            ids: The tokens of each string, without padding.
            progress: Show a progress bar.
        """
        counted = [self.counted(row) for row in ids]
        asked = [(row, place) for row in range(len(ids)) for place in counted[row].tolist()]
        total = np.zeros(len(ids))
        np.add.at(total, [row for row, _ in asked], self.log_probabilities(ids, asked, progress))
        numbers = np.array([len(places) for places in counted], dtype=float)
        means = np.full(len(ids), np.nan)
        np.divide(total, numbers, out=means, where=numbers > 0)
        return means

    def counted(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of the words that count in a string's tokens."""
        return np.flatnonzero(np.isin(self._classes(ids, np.array([0])), self._counted))

    def log_probabilities(
        self, ids: Sequence[NDArray[np.int64]], asked: Sequence[tuple[int, int]], progress: bool = False
    ) -> NDArray[np.float64]:
        """Return ln P of words, each given all others of its string.

        Args:
            ids: The tokens of each string, without padding.
            asked: String and place of each word.
            progress: Show a progress bar.
        """
        order = sorted(range(len(asked)), key=lambda index: len(ids[asked[index][0]]))
        totals = np.zeros(len(asked))
        bar = tqdm(total=len(asked), desc="likelihood", unit="word", disable=None if progress else True)
        start = 0
        while start < len(order):
            size = max(1, MOST_TOKENS // len(ids[asked[order[min(start + 255, len(order) - 1)]][0]]))
            batch = order[start : start + min(size, 256)]
            strings = [ids[asked[index][0]] for index in batch]
            totals[batch] = self._log_probabilities(strings, [asked[index][1] for index in batch])
            start += len(batch)
            bar.update(len(batch))
        bar.close()
        return totals

    def outside(self, values: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Tell which log-likelihoods are out of distribution; None without a threshold."""
        return None if self.settings.threshold is None else values < self.settings.threshold

    @torch.no_grad()
    def _log_probabilities(self, ids: list[NDArray[np.int64]], places: list[int]) -> NDArray[np.float64]:
        """Ln P of the word at one place of each string, given the others."""
        width = max(map(len, ids))
        tokens = torch.full((len(ids), width), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(tokens)
        for row, string in enumerate(ids):
            tokens[row, : len(string)] = torch.from_numpy(string)
            mask[row, : len(string)] = 1
        every, where = torch.arange(len(ids)), torch.tensor(places)
        hidden = tokens[every, where]
        tokens[every, where] = self.tokenizer.mask_token_id
        states = self.model.bert(tokens, attention_mask=mask).last_hidden_state[every, where]
        logits = self.model.cls(states).float()
        log_probabilities = logits.log_softmax(dim=-1)[every, hidden].double().numpy()
        return np.asarray(log_probabilities)


def distinct_strings(table: str, most: int | None = None, seed: int = 0) -> list[str]:
    """Return the distinct strings of a table, or some of them, chosen at random.

    Args:
        table: A table with a column `scope`; `TABLE:PART` takes the rows whose column `part` says so.
        most: How many; None: all.
        seed: Of the choice.

    Raises:
        TableError: The table cannot be read, lacks a column, or holds no such string.
    """
    path, _, part = table.partition(":") if not Path(table).is_file() else (table, "", "")
    rows = read_table(path)
    for column in ("scope", *(["part"] if part else [])):
        if column not in rows:
            raise TableError(f"there is no column {column!r}; it has {', '.join(map(str, rows))}.", source=path)
    if part:
        rows = rows[rows["part"] == part]
    strings = sorted(set(rows["scope"].dropna().astype(str)))
    if not strings:
        raise TableError(f"holds no strings{f' of the part {part!r}' if part else ''}.", source=path)
    chosen = np.random.default_rng(seed).permutation(len(strings))[:most]
    return [strings[row] for row in chosen]


def measure_likelihoods(
    likelihood: "StringLikelihood | LikelihoodHead",
    inside: Sequence[str],
    outside: Sequence[str] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> tuple[dict[str, Any], LikelihoodSettings]:
    """Measure how well likelihoods tell strings of another kind.

    Args:
        likelihood: The model and the words that count.
        inside: Strings like those that the model learned, which it has not seen.
        outside: Strings of another kind; those that are inside too are left out.
        seed: Of the bootstrap.
        progress: Show progress bars.

    Returns:
        `words`, `threshold` in nats per word, `inside` and `outside` (how many `strings`, their `mean` log-likelihood),
        `flagged_inside` and `flagged_outside`, the shares below the threshold, `auroc` (the probability that a string
        from inside is the likelier one of two) and its 95 % interval `auroc_95`; and the settings with this threshold.

    Raises:
        TableError: No string holds a word that counts.
        UnknownWordError, ScopeTooLongError: A string that the model cannot read.
    """
    from cloud_hf.metrics.statistics import auroc, bootstrap_interval  # scipy, which flags do not need

    words = likelihood.settings.words
    known = set(inside)
    parts = {"inside": list(inside), "outside": [scope for scope in outside or () if scope not in known]}
    values = {name: likelihood(scopes, progress) for name, scopes in parts.items() if scopes}
    values = {name: scores[~np.isnan(scores)] for name, scores in values.items()}
    if not len(values.get("inside", ())):
        raise TableError(f"No string from inside holds a word that counts ({', '.join(words)}).")
    threshold = float(np.quantile(values["inside"], SHARE))
    figures: dict[str, Any] = {"words": list(words), "threshold": threshold}
    for name, scores in values.items():
        figures[name] = {"strings": len(scores), "mean": float(scores.mean())}
        figures[f"flagged_{name}"] = float((scores < threshold).mean())
    if len(values.get("outside", ())):
        samples = [values["inside"], values["outside"]]
        figures["auroc"] = float(auroc(values["inside"], values["outside"]))
        figures["auroc_95"] = list(bootstrap_interval(auroc, samples, resamples=RESAMPLES, seed=seed))
    return figures, LikelihoodSettings(threshold, SHARE, len(values["inside"]), tuple(words))
