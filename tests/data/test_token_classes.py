"""Classes of tokens: the segment decides, in every grammar."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_hf import ScopeTokenizer
from cloud_hf.data.token_classes import TOKEN_CLASSES, TokenClasses

SPECIAL, GENERATOR, WYCKOFF, ELEMENT, FRACTION = -1, 0, 1, 2, 3
CASES = {
    "1 2 a O C C | 3a 6b | O 0.6 C 0.4": [0] * 6 + [-1, 1, 1, -1, 2, 3, 2, 3],
    "1 2 a O C C | 3a 6b 6b | O C C": [0] * 6 + [-1, 1, 1, 1, -1, 2, 2, 2],
    "1 2 a O C C | O 3a C 6b": [0] * 6 + [-1, 2, 1, 2, 1],
}


@pytest.mark.parametrize("text", CASES)
def test_the_segment_decides(text: str, tokenizer: ScopeTokenizer) -> None:
    ids = np.array(tokenizer(text)["input_ids"])
    assert TokenClasses(tokenizer)(ids, np.array([0])).tolist() == [-1, *CASES[text], -1]


def test_strings_one_after_another_are_read_apart(tokenizer: ScopeTokenizer) -> None:
    rows = [np.array(tokenizer(text)["input_ids"]) for text in CASES]
    starts = np.cumsum([0, *map(len, rows)])[:-1]
    together = TokenClasses(tokenizer)(np.concatenate(rows), starts)
    alone = [TokenClasses(tokenizer)(row, np.array([0])) for row in rows]
    assert together.tolist() == np.concatenate(alone).tolist()


def test_every_word_of_real_strings_has_a_class(tokenizer: ScopeTokenizer, scopes: list[str]) -> None:
    for text in scopes:
        classes = TokenClasses(tokenizer)(np.array(tokenizer(text)["input_ids"]), np.array([0]))[1:-1]
        named = {TOKEN_CLASSES[index] for index in classes if index >= 0}
        assert named == set(TOKEN_CLASSES)
        assert (classes < 0).sum() == text.count("|")
