"""Likelihoods from the encoder that runs anyway: a small head, taught by a masked language model.

The pseudo-log-likelihood of a string takes a pass for every word that counts. Here a network of two layers gives an
estimate of it from the state that the property head of the first member reads, which costs nothing beside the encoder.
It is fitted to the teacher's values (distillation, Hinton et al. 2015) of real strings and of the same strings with
elements exchanged for others, so that it has seen what unusual crystals look like. The encoder is left as it is.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cloud_hf.errors import CheckpointError, ScopeError, one_line
from cloud_hf.inference.likelihood import LIKELIHOOD_FILE, LikelihoodSettings, StringLikelihood
from cloud_hf.models.chemistry_tables import ELEMENT_DESCRIPTORS
from cloud_hf.models.conformal import ELEMENTS, count_elements, head_fingerprint
from cloud_hf.scope.pairing import sites_scope

__all__ = ["HEAD_FOLDER", "LikelihoodHead", "distil", "exchange_elements"]

HEAD_FOLDER = "likelihood"
"""Folder inside a checkpoint's folder that holds the head and its `likelihood.json`."""

HEAD_FILE = "head.safetensors"

WIDTH, DROPOUT, EPOCHS, BATCH, RATE, DECAY = 128, 0.1, 20, 256, 2e-3, 0.01

SIMILAR = 0.3
"""How quickly unlike elements stop being exchanged: the chance falls by a factor e for each such mean square difference
of their standardised descriptors."""


@dataclass
class LikelihoodHead:
    """Estimates of pseudo-log-likelihoods; serves where a `StringLikelihood` gives values and flags.

    Attributes:
        weights: `centre` and `scale` of the states, then `0.weight`, `0.bias`, `1.weight` and `1.bias` of the layers.
        settings: Threshold of the estimates, and the words that the teacher's likelihoods are of.
        network: Runs the encoder and its tokenizer, a `FastPredictor`; for strings that are not encoded yet.
    """

    weights: dict[str, Tensor]
    settings: LikelihoodSettings
    network: Any

    def of_states(self, states: Tensor) -> NDArray[np.float64]:
        """Return log-likelihoods in nats per word, shape (n,), of states of shape (n, width)."""
        weights = self.weights
        with torch.inference_mode():
            scaled = (states.float() - weights["centre"]) / weights["scale"]
            inner = nn.functional.silu(nn.functional.linear(scaled, weights["0.weight"], weights["0.bias"]))
            values = nn.functional.linear(inner, weights["1.weight"], weights["1.bias"])
        return np.asarray(values[:, 0].double().numpy())

    def __call__(self, scopes: Sequence[str], progress: bool = False) -> NDArray[np.float64]:
        """Return log-likelihoods in nats per word, shape (len(scopes),)."""
        return self.of_states(states_of(self.network, scopes))

    def outside(self, values: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Tell which log-likelihoods are out of distribution; None without a threshold."""
        return None if self.settings.threshold is None else values < self.settings.threshold

    def save(self, folder: str | Path) -> Path:
        """Write the head into a checkpoint's folder, for its weights alone, and return where it lies."""
        path = Path(folder, HEAD_FOLDER)
        path.mkdir(exist_ok=True)
        aside = path / f".{HEAD_FILE}"
        save_file(self.weights, aside, {"format": "pt", "fingerprint": self._fingerprint(self.network)})
        aside.replace(path / HEAD_FILE)
        self.settings.save(path)
        return path

    @classmethod
    def load(cls, folder: str | Path, network: Any) -> "LikelihoodHead | None":
        """Read the head of a checkpoint's folder; None where there is none.

        Args:
            folder: Of the checkpoint.
            network: The `FastPredictor` that was loaded from it.

        Raises:
            CheckpointError: It cannot be read, or belongs to other weights.
        """
        path = Path(folder, HEAD_FOLDER)
        if not (path / HEAD_FILE).is_file():
            return None
        try:
            with safe_open(path / HEAD_FILE, "pt") as file:
                metadata, names = file.metadata() or {}, list(file.keys())
                weights = {name: file.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot be read ({one_line(error)}).", source=str(path / HEAD_FILE)) from error
        if metadata.get("fingerprint") != cls._fingerprint(network):
            raise CheckpointError(
                "was made for other weights than these. Make it again with `cloud-hf likelihood --distil`, or delete "
                "its folder to predict without flags.",
                source=str(path / HEAD_FILE),
            )
        return cls(weights, LikelihoodSettings.load(path / LIKELIHOOD_FILE), network)

    @staticmethod
    def _fingerprint(network: Any) -> str:
        """Of the first member's property head, which no other encoder has, in whatever dtype it was loaded."""
        return head_fingerprint(network.first_member, torch.bfloat16)


def states_of(network: Any, scopes: Sequence[str], batch_size: int = 256) -> Tensor:
    """Return what the property head of the first member reads, shape (len(scopes), width).

    Raises:
        UnknownWordError, ScopeTooLongError: A string that the model cannot read.
    """
    order = sorted(range(len(scopes)), key=lambda row: len(scopes[row].split()))
    batches: list[Tensor] = []
    for start in range(0, len(order), batch_size):
        rows = [scopes[row] for row in order[start : start + batch_size]]
        batches.append(network.states(network.tokenizer(rows, padding=True, return_tensors="pt")).float())
    return torch.cat(batches)[torch.tensor(order).argsort()]


def exchange_elements(scopes: Sequence[str], seed: int = 0) -> list[str]:
    """Exchange some elements of each string for others, in the grammar `sites`, canonical; fails where nothing fits.

    One half of the strings loses one element, the others from one to all. What replaces it is drawn, a third of the
    time each, as often as it occurs, evenly, or by likeness of the elements' descriptors.

    Args:
        scopes: Strings of the grammar `sites`.
        seed: Of the choices.

    Returns:
        The new strings that are not among the old ones, each once.
    """
    chance, counts = np.random.default_rng(seed), count_elements(scopes)
    names = [name for name in counts if name in ELEMENTS]
    often = np.array([counts[name] for name in names], dtype=float)
    descriptors = np.array(ELEMENT_DESCRIPTORS)[[ELEMENTS.index(name) for name in names]]
    descriptors = (descriptors - descriptors.mean(0)) / (descriptors.std(0) + 1e-9)
    unlike = ((descriptors[:, None] - descriptors[None]) ** 2).mean(-1)
    places = {name: place for place, name in enumerate(names)}
    old, new = set(scopes), dict[str, None]()
    for scope in scopes:
        head, _, rest = scope.partition("|")
        words = rest.split()
        present = [name for name in dict.fromkeys(words[::2]) if name in places]
        if not present or len(names) < 2 * len(present):
            continue
        number = 1 if len(present) == 1 or chance.random() < 0.5 else int(chance.integers(1, len(present) + 1))
        kind, exchanged = chance.integers(3), dict[str, str]()
        for name in chance.permutation(present)[:number]:
            share = (often, np.ones(len(names)), np.exp(-unlike[places[name]] / SIMILAR))[kind].copy()
            share[[places[other] for other in (*present, *exchanged.values())]] = 0
            exchanged[str(name)] = names[chance.choice(len(names), p=share / share.sum())]
        text = f"{head}| {' '.join(exchanged.get(word, word) for word in words)}"
        try:
            made = str(sites_scope(text).canonical())
        except ScopeError:
            continue
        if made not in old:
            new[made] = None
    return list(new)


def sampled_likelihoods(teacher: StringLikelihood, scopes: Sequence[str], seed: int = 0) -> NDArray[np.float64]:
    """Estimate pseudo-log-likelihoods with one masked word for each distinct word that counts, chosen at random.

    A word that stands in many places is masked in one of them and counts as often as it stands there: without bias, and
    several times cheaper than the whole sum.
    """
    chance = np.random.default_rng(seed)
    ids = [np.array(row) for row in teacher.tokenizer(list(scopes))["input_ids"]]
    asked: list[tuple[int, int, float]] = []
    for row, tokens in enumerate(ids):
        counted = teacher.counted(tokens)
        for word in np.unique(tokens[counted]):
            same = counted[tokens[counted] == word]
            asked.append((row, int(chance.choice(same)), len(same) / len(counted)))
    totals = np.zeros(len(ids))
    values = teacher.log_probabilities(ids, [(row, place) for row, place, _ in asked], progress=True)
    np.add.at(totals, [row for row, _, _ in asked], values * np.array([share for _, _, share in asked]))
    return totals


def distil(
    teacher: StringLikelihood,
    network: Any,
    scopes: Sequence[str],
    seed: int = 0,
    measured: Collection[str] = (),
) -> LikelihoodHead:
    """Fit a head to a teacher's likelihoods of strings and of the same number with elements exchanged.

    Args:
        teacher: The masked language model.
        network: The `FastPredictor` whose first member the head belongs to.
        scopes: Real strings, of the grammar `sites`.
        seed: Of all choices.
        measured: Strings by which the result is measured: none that comes of an exchange is learned.

    Returns:
        The head, without a threshold.
    """
    known = [scope for scope in [*scopes, *exchange_elements(scopes, seed)] if scope not in measured]
    values = torch.from_numpy(sampled_likelihoods(teacher, known, seed)).float()
    states = states_of(network, known)
    centre, scale, mean, spread = states.mean(0), states.std(0) + 1e-6, values.mean(), values.std()
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        torch.manual_seed(seed)
        scaled, wanted = ((states - centre) / scale).clone(), ((values - mean) / spread).clone()
        layers = nn.Sequential(nn.Linear(scaled.shape[1], WIDTH), nn.Linear(WIDTH, 1))
        optimizer = torch.optim.AdamW(layers.parameters(), RATE, weight_decay=DECAY)
        steps = EPOCHS * math.ceil(len(scaled) / BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for rows in _batches(len(scaled), steps):
            inner = nn.functional.silu(layers[0](nn.functional.dropout(scaled[rows], DROPOUT)))
            loss = nn.functional.huber_loss(layers[1](inner)[:, 0], wanted[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    weights = {name: weight.detach().clone() for name, weight in layers.state_dict().items()}
    weights["1.weight"], weights["1.bias"] = spread * weights["1.weight"], spread * weights["1.bias"] + mean
    weights |= {"centre": centre.clone(), "scale": scale.clone()}
    return LikelihoodHead(weights, LikelihoodSettings(words=teacher.settings.words), network)


def _batches(number: int, steps: int) -> Iterator[Tensor]:
    """Rows of each step, all rows once before any comes again."""
    while True:
        for rows in torch.randperm(number).split(BATCH):
            if not steps:
                return
            steps -= 1
            yield rows
