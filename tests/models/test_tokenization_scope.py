"""The tokenizer: published ids, a closed vocabulary, round trips, and the files in `tokenizer/`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, load_from_disk
from datasets.fingerprint import Hasher
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Element
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BatchEncoding, PreTrainedTokenizer

from cloud_hf import ScopeEncoder, ScopeTokenizer, bundled_model, grammar_of
from cloud_hf.checkpoints.export import stock_tokenizer
from cloud_hf.errors import CloudError, GrammarError, ScopeTooLongError, UnknownWordError
from cloud_hf.scope.generators import generator_words

SPECIAL = {"[CLS]": 0, "[PAD]": 1, "[SEP]": 2, "[UNK]": 3, "[MASK]": 4}
SILICON_FULL = "0 7 a O D D a D O D b O D D c D D O d O O O e F B F h B B B 1 Z Z Z | 8a 8a | Si Si"


@pytest.fixture(scope="module")
def fast(root: Path) -> Any:
    """The stock tokenizer in `tokenizer/fast`, through AutoTokenizer."""
    return AutoTokenizer.from_pretrained(root / "tokenizer" / "fast")


@pytest.fixture(scope="module")
def example_scopes(examples: list[Path]) -> list[str]:
    """The strings of the example crystals, in both grammars that the encoder writes."""
    return [
        ScopeEncoder(grammar, canonical=False).encode(path) for grammar in ("composition", "full") for path in examples
    ]


@pytest.fixture(scope="module")
def published_scopes(shared: Path) -> list[str]:
    """10,000 strings of the paper's pre-training corpus."""
    import pandas as pd

    return pd.read_parquet(shared / "data" / "published_scope_10k.parquet")["scope"].tolist()


def words_of_the_grammar(wyckoff_multiplicities: dict[str, dict[str, int]]) -> set[str]:
    """Every word that a crystal can need, from the tables and not from the vocabulary file."""
    wyckoff = {
        f"{multiplicity}{letter}"
        for positions in wyckoff_multiplicities.values()
        for letter, multiplicity in positions.items()
    }
    generators = {word for group in range(1, 231) for word in generator_words(group)}
    elements = {Element.from_Z(number).symbol for number in range(1, 119)}
    fractions = {str(percent / 100) for percent in range(101)}
    return {"|"} | wyckoff | generators | elements | fractions


# ------------------------------------------------------------------------------------------------ ids


def test_special_tokens_have_the_published_ids(tokenizer: ScopeTokenizer) -> None:
    assert {word: tokenizer.convert_tokens_to_ids(word) for word in SPECIAL} == SPECIAL
    ids = tokenizer.cls_token_id, tokenizer.pad_token_id, tokenizer.sep_token_id
    assert (*ids, tokenizer.unk_token_id, tokenizer.mask_token_id) == (0, 1, 2, 3, 4)


def test_ids_up_to_563_are_the_published_ones(tokenizer: ScopeTokenizer, shared: Path) -> None:
    words = (shared / "published" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    added = json.loads((shared / "published" / "added_tokens.json").read_text(encoding="utf-8"))
    published = {word: index for index, word in enumerate(words)} | added
    assert sorted(published.values()) == list(range(564))
    assert {word: index for word, index in tokenizer.get_vocab().items() if index < 564} == published


def test_the_published_tokenizer_gives_the_same_ids(
    tokenizer: ScopeTokenizer, shared: Path, published_scopes: list[str]
) -> None:
    published = AutoTokenizer.from_pretrained(shared / "published")
    assert len(published_scopes) == 10_000
    assert tokenizer(published_scopes)["input_ids"] == published(published_scopes)["input_ids"]


def test_published_strings_come_back_from_their_ids(tokenizer: ScopeTokenizer, published_scopes: list[str]) -> None:
    scopes = published_scopes[::20]
    assert tokenizer.batch_decode(tokenizer(scopes)["input_ids"], skip_special_tokens=True) == scopes


def test_the_vocabulary_is_complete_and_holds_nothing_else(
    tokenizer: ScopeTokenizer, wyckoff_multiplicities: dict[str, dict[str, int]]
) -> None:
    vocabulary = set(tokenizer.get_vocab())
    needed = words_of_the_grammar(wyckoff_multiplicities)
    assert needed - vocabulary == set()
    # what is left over comes from the published vocabulary, whose ids cannot be given away
    assert {word for word in vocabulary - needed - set(SPECIAL) if tokenizer.convert_tokens_to_ids(word) > 563} == set()


def test_ids_are_the_numbers_from_zero_without_gaps(tokenizer: ScopeTokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert len(vocabulary) == tokenizer.vocab_size == len(tokenizer)


def test_each_word_is_one_id(tokenizer: ScopeTokenizer) -> None:
    for word, index in tokenizer.get_vocab().items():
        assert tokenizer(word)["input_ids"] == [0, index, 2]
        assert tokenizer.convert_ids_to_tokens(index) == word


# ------------------------------------------------------------------------------------------------ strings to ids


def test_strings_come_back_from_their_ids(tokenizer: ScopeTokenizer, example_scopes: list[str]) -> None:
    for scope in example_scopes:
        ids = tokenizer.encode(scope)
        assert len(ids) == len(scope.split()) + 2
        assert tokenizer.decode(ids, skip_special_tokens=True) == scope


def test_one_by_one_or_in_a_batch(tokenizer: ScopeTokenizer, example_scopes: list[str]) -> None:
    assert tokenizer(example_scopes)["input_ids"] == [tokenizer(scope)["input_ids"] for scope in example_scopes]


def test_the_amount_of_white_space_does_not_matter(tokenizer: ScopeTokenizer) -> None:
    assert tokenizer("1  0 0 |\t2i | Cu\n1.0 ")["input_ids"] == tokenizer("1 0 0 | 2i | Cu 1.0")["input_ids"]


def test_a_masked_word_is_the_mask(tokenizer: ScopeTokenizer) -> None:
    assert tokenizer("1 0 0 | 2i | [MASK] 1.0")["input_ids"][7] == tokenizer.mask_token_id


@pytest.mark.parametrize("word", ["Qq", "cu", "0.10", "1.01", "0.005", "300", "7a", "nan", "Cu1", "é"])
@pytest.mark.parametrize("batch", [False, True], ids=["single", "batch"])
def test_an_unknown_word_is_named(tokenizer: ScopeTokenizer, word: str, batch: bool) -> None:
    scope = f"1 0 0 | 2i | {word} 1.0"
    with pytest.raises(UnknownWordError, match=re.escape(repr(word))):
        tokenizer(["1 0 0 | 2i | Cu 1.0", scope] if batch else scope)


def test_every_way_in_refuses_an_unknown_word(tokenizer: ScopeTokenizer) -> None:
    for enter in (tokenizer, tokenizer.encode, tokenizer.convert_tokens_to_ids):
        with pytest.raises(UnknownWordError, match="'Qq'"):
            enter("Qq")


@pytest.mark.parametrize("extra", [0, 1, 50])
@pytest.mark.parametrize("options", [{}, {"padding": True}, {"verbose": False}, {"return_tensors": "pt"}], ids=str)
def test_a_string_longer_than_the_model_is_refused(
    tokenizer: ScopeTokenizer, extra: int, options: dict[str, Any]
) -> None:
    scope = " ".join(["0"] * (254 + extra))
    if extra == 0:
        ids = tokenizer([scope], **options)["input_ids"]
        assert len(ids[0]) == 256
        return
    for text in (scope, ["0", scope]):
        if isinstance(text, list) and "return_tensors" in options:
            continue  # strings of unequal length make no tensor
        with pytest.raises(ScopeTooLongError, match=str(256 + extra)):
            tokenizer(text, **options)


def test_a_string_is_cut_when_that_is_asked_for(tokenizer: ScopeTokenizer) -> None:
    scope = " ".join(["0"] * 300)
    cut = tokenizer(scope, truncation=True)["input_ids"]
    assert len(cut) == 256
    assert (cut[0], cut[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert len(tokenizer(scope, truncation=True, max_length=10)["input_ids"]) == 10


def test_a_length_alone_cuts_nothing_on_any_way_in(tokenizer: ScopeTokenizer) -> None:
    scope = "1 0 0 | 2i | Cu 1.0"
    for more in ({}, {"padding": False}, {"truncation": None}, {"truncation": False}):
        assert len(tokenizer(scope, max_length=4, **more)["input_ids"]) == 10
        assert len(tokenizer.encode(scope, max_length=4, **more)) == 10
    assert (
        tokenizer.encode(scope, max_length=4, truncation=True)
        == tokenizer(scope, max_length=4, truncation=True)["input_ids"]
    )


@pytest.mark.parametrize("enter", ["__call__", "encode"])
@pytest.mark.parametrize("options", [{"truncation": True, "max_length": 300}, {"verbose": False}], ids=str)
def test_no_way_in_gives_more_than_the_model_reads(
    tokenizer: ScopeTokenizer, enter: str, options: dict[str, Any]
) -> None:
    with pytest.raises(ScopeTooLongError, match="256 positions"):
        getattr(tokenizer, enter)(" ".join(["0"] * 400), **options)


@pytest.mark.parametrize("texts", ["0 1", ["0 1"]])
def test_offsets_are_refused_with_the_way_to_get_them(tokenizer: ScopeTokenizer, texts: Any) -> None:
    with pytest.raises(CloudError, match="stock_tokenizer"):
        tokenizer(texts, return_offsets_mapping=True)
    assert "offset_mapping" in stock_tokenizer(tokenizer)(texts, return_offsets_mapping=True)


class TestDatasets:
    def test_a_call_does_not_change_the_hash(self, scopes: list[str]) -> None:
        tokenizer = ScopeTokenizer()
        before = Hasher.hash(tokenizer)
        for options in ({}, {"padding": True}, {"return_tensors": "pt", "padding": True}, {"truncation": True}):
            tokenizer(scopes, **options)
        assert Hasher.hash(tokenizer) == before == Hasher.hash(ScopeTokenizer())
        tokenizer.add_tokens(["new"])
        assert Hasher.hash(tokenizer) != before

    def test_map_finds_its_cache(self, scopes: list[str], tmp_path: Path) -> None:
        tokenizer, calls = ScopeTokenizer(), tmp_path / "calls"

        def encode(batch: dict[str, list[str]]) -> Any:
            with calls.open("a") as file:
                file.write("call\n")
            return tokenizer(batch["scope"])

        Dataset.from_dict({"scope": scopes}).save_to_disk(tmp_path / "rows")
        first, again = (load_from_disk(tmp_path / "rows").map(encode, batched=True) for _ in range(2))
        assert first["input_ids"] == again["input_ids"]
        assert calls.read_text() == "call\n"

    def test_several_processes_map_with_the_tokenizer_of_the_bundled_checkpoint(self, scopes: list[str]) -> None:
        tokenizer = AutoTokenizer.from_pretrained(bundled_model("band_gap"))
        texts = ["1 0 0 | Cu 2i", "1 0 0 | Na 1a Cl 1h"] * 10
        rows = Dataset.from_dict({"scope": texts})
        mapped = rows.map(lambda batch: tokenizer(batch["scope"]), batched=True, batch_size=4, num_proc=2)
        assert mapped["input_ids"] == tokenizer(texts)["input_ids"]


def test_the_limit_is_the_tokenizers_own(tokenizer: ScopeTokenizer) -> None:
    short = ScopeTokenizer(model_max_length=8)
    assert len(short("1 0 0 | 2i |")["input_ids"]) == 8
    with pytest.raises(ScopeTooLongError, match="8 positions"):
        short("1 0 0 | 2i | Cu")
    assert tokenizer.model_max_length == 256


def test_padding_is_pad_and_masked(tokenizer: ScopeTokenizer, scopes: list[str]) -> None:
    batch = tokenizer(scopes, padding=True, return_tensors="pt")
    lengths = [len(scope.split()) + 2 for scope in scopes]
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (len(scopes), max(lengths))
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()
    assert (batch["input_ids"][batch["attention_mask"] == 1] != tokenizer.pad_token_id).all()
    assert set(batch) == {"input_ids", "attention_mask"}


# ------------------------------------------------------------------------------------------------ the short cut

WORDS = st.sampled_from(["0", "1", "|", "4a", "Cu", "O", "1.0", "[MASK]", "[SEP]", "[PAD]", "[MASK]Cu", "Qq", "é"])
SPACES = st.sampled_from([" ", "  ", "\t", "\n", "\u00a0", ""])
TEXTS = st.lists(st.tuples(WORDS, SPACES), max_size=14).map(lambda pairs: "".join(w + gap for w, gap in pairs))
PLAIN = st.lists(st.sampled_from(["0", "1", "|", "4a", "Cu", "O", "1.0", "[MASK]"]), max_size=14).map(" ".join)
BATCHES = st.one_of(PLAIN, TEXTS, *(st.lists(t, max_size=5) for t in (PLAIN, TEXTS)), st.tuples(PLAIN, PLAIN))
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "padding": st.sampled_from([True, False, "longest", "max_length", "do_not_pad", "wrong", None, 1]),
        "max_length": st.sampled_from([None, 0, 3, 12, 30]),
        "return_tensors": st.sampled_from([None, "pt", "np", "wrong"]),
        "truncation": st.sampled_from([False, None, True]),
        "add_special_tokens": st.booleans(),
        "return_attention_mask": st.booleans(),
        "pad_to_multiple_of": st.sampled_from([None, 8]),
        "verbose": st.booleans(),
    },
)


def result(call: Any, *args: Any, **options: Any) -> Any:
    """What a call returns, or the type and the text of its error."""
    try:
        return call(*args, **options)
    except Exception as error:
        return type(error), str(error)


def assert_equal_batches(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if not isinstance(one, BatchEncoding):
        assert one == other
        return
    assert list(one) == list(other)
    for key, value in one.items():
        assert type(value) is type(other[key])
        if isinstance(value, (np.ndarray, torch.Tensor)):
            assert (value.dtype, value.shape) == (other[key].dtype, other[key].shape)
            assert [row.tolist() for row in value] == [row.tolist() for row in other[key]]  # ragged ones, too
        else:
            assert value == other[key]


def without_short_cut(tokenizer: ScopeTokenizer) -> Any:
    def call(text: Any, truncation: Any = False, **options: Any) -> BatchEncoding:
        truncation = False if truncation is None else truncation
        return PreTrainedTokenizer.__call__(tokenizer, text, truncation=truncation, **options)

    return call


VARIANTS = {
    "default": {},
    "short": {"model_max_length": 9},
    "unlimited": {"model_max_length": int(1e30)},
    "left": {"padding_side": "left"},
    "no mask": {"model_input_names": ["input_ids"]},
    "no special tokens": {"special_tokens_pattern": "none"},
    "split special tokens": {"split_special_tokens": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.filterwarnings("ignore:`max_length` is ignored")
@settings(max_examples=150)
@given(texts=BATCHES, options=OPTIONS)
def test_the_short_cut_gives_what_the_base_class_gives(variant: str, texts: Any, options: dict[str, Any]) -> None:
    tokenizer = ScopeTokenizer(**VARIANTS[variant])
    expected = result(without_short_cut(tokenizer), texts, **options)
    assert_equal_batches(result(tokenizer, texts, **options), expected)


@settings(max_examples=50)
@given(texts=BATCHES, token=st.sampled_from(["new", "1", "Cu", "C", "0 1", "0"]), special=st.booleans())
def test_added_tokens_mean_the_same_with_the_short_cut(texts: Any, token: str, special: bool) -> None:
    tokenizer = ScopeTokenizer()
    tokenizer("0 1")
    tokenizer.add_tokens([token], special_tokens=special)
    assert_equal_batches(result(tokenizer, texts), result(without_short_cut(tokenizer), texts))


def test_the_short_cut_is_taken(tokenizer: ScopeTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PreTrainedTokenizer, "__call__", None)
    for texts in ("0 1", "", ["0 1", "0"], ("0", "1")):
        for padding in (True, "longest", "max_length"):
            for return_tensors in (None, "pt", "np"):
                assert tokenizer(texts, padding=padding, return_tensors=return_tensors)
        assert tokenizer(texts)
    assert tokenizer("0 1", return_tensors="pt")["input_ids"].tolist() == [[0, *tokenizer.encode("0 1")[1:]]]


def test_the_short_cut_survives_pickling_and_saving(tokenizer: ScopeTokenizer, scopes: list[str]) -> None:
    import pickle

    again = pickle.loads(pickle.dumps(tokenizer))
    assert_equal_batches(again(scopes, padding=True), tokenizer(scopes, padding=True))


# ------------------------------------------------------------------------------------------------ files


def test_saving_keeps_ids_and_limit(tmp_path: Path, scopes: list[str]) -> None:
    saved = ScopeTokenizer(model_max_length=77)
    saved.save_pretrained(tmp_path)
    loaded = [ScopeTokenizer.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)]
    for again in loaded:
        assert type(again) is ScopeTokenizer
        assert again.model_max_length == 77
        assert again.get_vocab() == saved.get_vocab()
        assert again(scopes)["input_ids"] == saved(scopes)["input_ids"]
        with pytest.raises(UnknownWordError):
            again("Qq")


def test_another_vocabulary_file_is_used(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "0", "Cu"]) + "\n", encoding="utf-8")
    small = ScopeTokenizer(tmp_path / "vocab.txt")
    assert small("0 Cu")["input_ids"] == [0, 5, 6, 2]
    with pytest.raises(UnknownWordError, match="'Si'"):
        small("Si")


@pytest.mark.parametrize("name", ["tokenization_scope.py", "saving_cloud.py", "errors.py", "vocab.txt"])
def test_the_files_in_the_tokenizer_folder_are_the_packages(root: Path, name: str) -> None:
    assert (root / "tokenizer" / name).read_bytes() == (root / "cloud_hf" / "models" / name).read_bytes()


def test_the_tokenizer_folder_is_what_saving_writes(root: Path, tmp_path: Path) -> None:
    ScopeTokenizer().save_pretrained(tmp_path)
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir() if path.is_file()}
    kept = {path.name: path.read_text(encoding="utf-8") for path in (root / "tokenizer").iterdir() if path.is_file()}
    assert kept.keys() == written.keys()
    for name, text in written.items():
        same = json.loads(kept[name]) == json.loads(text) if name.endswith(".json") else kept[name] == text
        assert same, name


# ------------------------------------------------------------------------------------------------ the stock tokenizer


def test_the_stock_tokenizer_needs_no_code(root: Path, fast: Any) -> None:
    assert fast.is_fast
    assert type(fast).__module__.startswith("transformers.")
    folder = root / "tokenizer" / "fast"
    assert {path.name for path in folder.iterdir()} == {"README.md", "tokenizer.json", "tokenizer_config.json"}
    assert all("auto_map" not in path.read_text(encoding="utf-8") for path in folder.iterdir())


def test_the_stock_tokenizer_has_the_same_ids(
    root: Path, fast: Any, tokenizer: ScopeTokenizer, example_scopes: list[str]
) -> None:
    raw = Tokenizer.from_file(str(root / "tokenizer" / "fast" / "tokenizer.json"))
    words = list(tokenizer.get_vocab())
    texts = example_scopes + words
    expected = tokenizer(texts)["input_ids"]
    assert fast(texts)["input_ids"] == expected
    assert [encoding.ids for encoding in raw.encode_batch(texts)] == expected
    assert fast.get_vocab() == raw.get_vocab() == tokenizer.get_vocab()


def test_the_stock_tokenizer_has_the_same_settings(fast: Any, tokenizer: ScopeTokenizer, scopes: list[str]) -> None:
    assert fast.model_max_length == tokenizer.model_max_length
    assert fast.special_tokens_map == tokenizer.special_tokens_map
    assert dict(fast(scopes, padding=True)) == dict(tokenizer(scopes, padding=True))
    assert fast.decode(fast.encode(scopes[1]), skip_special_tokens=True) == scopes[1]


def test_the_stock_tokenizer_refuses_an_unknown_word(root: Path, fast: Any) -> None:
    raw = Tokenizer.from_file(str(root / "tokenizer" / "fast" / "tokenizer.json"))
    for encode in (fast, raw.encode):
        with pytest.raises(Exception, match="UNK"):
            encode("1 0 0 | 2i | Qq 1.0")


# ------------------------------------------------------------------------------------------------ grammars


@pytest.mark.parametrize(
    ("scope", "grammar"),
    [
        ("1 0 0 | 2i | Cu 1.0", "composition"),
        ("1 2 a E C C n O O O 0 | 3a 3b 6c 18f | Ba 0.1 Ti 0.1 B 0.2 O 0.6", "composition"),
        ("1 0 0 | 2i | [MASK] 1.0", "composition"),
        ("1 0 0 | 2i 2i | Cu O", "full"),
        (SILICON_FULL, "full"),
        ("1 0 0 | Cu 2i", "sites"),
        ("1 0 0 | Cu 2i O 1a O 8A", "sites"),
    ],
)
def test_the_form_of_a_string_tells_its_grammar(scope: str, grammar: str) -> None:
    assert grammar_of(scope) == grammar


def test_the_encoders_grammar_is_recognised(examples: list[Path]) -> None:
    for grammar in ("composition", "full"):
        assert {grammar_of(ScopeEncoder(grammar, canonical=False).encode(path)) for path in examples} == {grammar}


def test_published_strings_are_compositions(published_scopes: list[str]) -> None:
    assert {grammar_of(scope) for scope in published_scopes} == {"composition"}


@pytest.mark.parametrize(
    "scope",
    [
        "", "|", "||", "copper", "1 0 0", "1 0 0 | | Cu 1.0", "| 2i | Cu 1.0", "1 0 0 | 2i | Cu 1.0 | Cu",
        "1 0 0 | 2i 2i | Cu", "1 0 0 | 2i | 1.0 Cu", "1 0 0 | i2 | Cu 1.0", "1 0 0 | 2i | cu 1.0",
        "1 0 0 | 2i 2i | Cu O O",
        "1 0 0 | Cu 2i O", "1 0 0 | 2i Cu", "1 0 0 | 2i | Cu 1.0 O", "1 0 0 | 2i | Cu x", "/data/a|b.cif",
    ],
)  # fmt: skip
def test_a_string_without_grammar_is_quoted(scope: str) -> None:
    with pytest.raises(GrammarError) as caught:
        grammar_of(scope)
    assert repr(scope) in str(caught.value)


def test_a_long_string_without_grammar_is_quoted_in_part() -> None:
    with pytest.raises(GrammarError) as caught:
        grammar_of("word " * 1000)
    assert len(str(caught.value)) < 400


def test_the_settings_of_the_encoder_are_saved_with_it(tmp_path: Path) -> None:
    tokenizer = ScopeTokenizer(encoder_settings=ScopeEncoder().settings)
    tokenizer.save_pretrained(tmp_path / "one")
    assert json.loads((tmp_path / "one" / "tokenizer_config.json").read_text())["encoder_settings"].startswith("sites,")
    again = ScopeTokenizer.from_pretrained(tmp_path / "one")
    assert again.encoder_settings == tokenizer.encoder_settings
    again.encoder_settings = "others"  # as training does, once it knows the strings
    again.save_pretrained(tmp_path / "two")
    assert ScopeTokenizer.from_pretrained(tmp_path / "two").encoder_settings == "others"
    assert ScopeTokenizer().encoder_settings is None


def test_a_user_s_subclass_is_saved_and_comes_back(tmp_path: Path, scopes: list[str]) -> None:
    class MyTokenizer(ScopeTokenizer):
        pass

    MyTokenizer(model_max_length=99).save_pretrained(tmp_path)
    again = MyTokenizer.from_pretrained(tmp_path)
    assert (type(again), again.model_max_length) == (MyTokenizer, 99)
    assert again(scopes)["input_ids"] == ScopeTokenizer()(scopes)["input_ids"]
