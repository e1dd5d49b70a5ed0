"""Rows of a joint table as a model of all heads reads them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cloud_hf.errors import TableError
from cloud_hf.models.conformal import element_amounts
from cloud_hf.training.joint_recipe import JointRecipe
from cloud_hf.training.joint_table import DEBYE_COLUMN, DOS_COLUMN, heat_capacity_column, label_columns

__all__ = ["JointCollator", "JointRows"]


class JointRows(Dataset[dict[str, Any]]):
    """Tokenised strings with all their labels.

    Args:
        table: From `build_joint_table`; an index that starts anew is not needed.
        recipe: That it was built with.
        tokenizer: Of the model.
        repeat_vibrations: How often a row with any vibrational label comes in an epoch; the others come once.
        repeat_elements: How often a crystal of a single element comes; the two do not multiply.

    Attributes:
        input_ids: Token ids of each distinct row.
        order: Row of `input_ids` and labels that each place stands for, shape (len,).
        digest: Hash of strings, labels and order.

    Raises:
        TableError: There are no rows, or the table was built with another recipe.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        recipe: JointRecipe,
        tokenizer: Any,
        repeat_vibrations: int = 1,
        repeat_elements: int = 1,
    ) -> None:
        missing = [name for name in ("scope", *label_columns(recipe), DOS_COLUMN) if name not in table.columns]
        if missing or not len(table):
            what = f"lacks the columns {', '.join(missing)}; build it with this recipe" if missing else "has no rows"
            raise TableError(f"The joint table {what}.")
        self.scopes = table["scope"].tolist()
        self.input_ids: list[list[int]] = tokenizer(self.scopes)["input_ids"]
        self.targets: NDArray[np.float32] = table[list(recipe.targets)].to_numpy(np.float32)
        cv = [heat_capacity_column(kelvin) for kelvin in recipe.temperatures]
        self.heat_capacity: NDArray[np.float32] = table[cv].to_numpy(np.float32)
        self.temperatures: NDArray[np.float32] = np.array(recipe.temperatures, np.float32)
        self.debye_temperature: NDArray[np.float32] = table[DEBYE_COLUMN].to_numpy(np.float32)
        width = len(recipe.vibrations.edges) - 1
        self.dos: NDArray[np.float32] = np.full((len(table), width), np.nan, np.float32)
        for row, shares in enumerate(table[DOS_COLUMN]):
            if shares is not None and np.ndim(shares) == 1:
                if len(shares) != width:
                    raise TableError(f"The joint table has {len(shares)} bins and the recipe {width}; build it again.")
                self.dos[row] = shares
        without = np.isnan(self.heat_capacity).all(1) & np.isnan(self.dos[:, 0]) & np.isnan(self.debye_temperature)
        single = np.array([len(element_amounts(scope)) == 1 for scope in self.scopes])
        times = np.maximum(np.where(without, 1, repeat_vibrations), np.where(single, repeat_elements, 1))
        self.order = np.concatenate([np.flatnonzero(times > turn) for turn in range(times.max())])
        digest = hashlib.sha256("\n".join(self.scopes).encode())
        labels = (self.targets, self.heat_capacity, self.temperatures, self.debye_temperature, self.dos)
        for values in (*labels, self.order):
            digest.update(np.ascontiguousarray(values).tobytes())
        self.digest = digest.hexdigest()[:16]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each place."""
        lengths: NDArray[np.int64] = np.array([len(ids) for ids in self.input_ids])[self.order]
        return lengths

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> dict[str, Any]:
        row = int(self.order[place])
        return {
            "input_ids": self.input_ids[row],
            "labels": self.targets[row],
            "dos_labels": self.dos[row],
            "heat_capacity_labels": self.heat_capacity[row],
            "label_temperature": self.temperatures,
            "debye_temperature_labels": self.debye_temperature[row],
        }


@dataclass
class JointCollator:
    """Pad the token ids of some rows and stack their labels.

    Attributes:
        pad_token_id: Of the tokenizer.
    """

    pad_token_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask` of shape (batch, longest), and the labels, batch first."""
        longest = max(len(row["input_ids"]) for row in rows)
        ids = np.full((len(rows), longest), self.pad_token_id, dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row["input_ids"])] = row["input_ids"]
        lengths = np.array([len(row["input_ids"]) for row in rows])
        mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
        labels = {
            name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0] if name != "input_ids"
        }
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask), **labels}
