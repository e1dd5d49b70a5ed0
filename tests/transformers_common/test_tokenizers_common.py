"""`TokenizerTesterMixin` of transformers over `ScopeTokenizer` and the stock tokenizer with the same ids.

The mixin's texts are English, which a closed vocabulary refuses (`tests/models/test_tokenization_scope.py` demands
that). Here both take unknown words as [UNK]; everything else is as it ships.
"""

from __future__ import annotations

import json
import shutil
import unittest
from pathlib import Path

import mixins
import pytest
from mixin_tests.test_tokenization_common import TokenizerTesterMixin
from testers import refused
from transformers import PreTrainedTokenizerFast

from cloud_hf import ScopeTokenizer
from cloud_hf.errors import ScopeTooLongError

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "tokenizer"


class OpenTokenizer(ScopeTokenizer):
    """`ScopeTokenizer` with [UNK] for a word outside its vocabulary."""

    def _convert_token_to_id(self, token: str) -> int:
        return self._ids.get(token, self.unk_token_id)


def open_stock() -> Path:
    """Write the stock tokenizer with [UNK] for a word outside its vocabulary."""
    folder = mixins.CACHE / "open"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(FOLDER / "fast", folder)
    saved = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    saved["model"]["unk_token"] = "[UNK]"
    (folder / "tokenizer.json").write_text(json.dumps(saved), encoding="utf-8")
    return folder


class TestScopeTokenizer(TokenizerTesterMixin, unittest.TestCase):
    tokenizer_class = OpenTokenizer
    from_pretrained_id = str(FOLDER)
    test_tokenizer_from_extractor = False

    # a string longer than the model is an error, not a warning: test_a_string_longer_than_the_model_is_refused
    test_maximum_encoding_length_single_input = refused(
        TokenizerTesterMixin.test_maximum_encoding_length_single_input, ScopeTooLongError, "positions of the model"
    )
    test_maximum_encoding_length_pair_input = refused(
        TokenizerTesterMixin.test_maximum_encoding_length_pair_input, ScopeTooLongError, "positions of the model"
    )
    # max_length alone cuts nothing: test_a_length_alone_cuts_nothing_on_any_way_in
    test_prepare_seq2seq_batch = refused(
        TokenizerTesterMixin.test_prepare_seq2seq_batch, ValueError, "you should probably activate truncation"
    )


class TestStockTokenizer(TokenizerTesterMixin, unittest.TestCase):
    tokenizer_class = PreTrainedTokenizerFast
    from_pretrained_id = str(open_stock())
    test_tokenizer_from_extractor = False
