"""What the ids say about elements and sites: by part of the string, by grammar, and nothing where a word is masked."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import torch
from pymatgen.core import Element

from cloud_hf import CloudConfig, CloudForMaskedLM, CloudForPropertyRegression, CloudModel, ScopeTokenizer
from cloud_hf.models.embeddings_cloud import ChemistryEmbedding, OrbitReader, Orbits

ALL_ON = {"element_descriptors": True, "site_multiplicity": True, "pooling": "cls_multiplicity"}
SITES = ["1 2 a E C C n O O O 0 | Ba 3a Ti 3b O 9d", "1 0 0 | Cu 2i O 1a C 1b", "1 0 0 | Cu 2i"]
COMPOSITION = ["1 2 a E C C n O O O 0 | 3a 3b 6c 18f | Ba 0.1 Ti 0.1 B 0.2 O 0.6", "1 0 0 | 2i | Cu 1.0"]
FULL = ["1 0 0 | 2i 2i 1a | Cu Cu O", "1 C 0 | 1a | C"]
GRAMMARS = {"sites": SITES, "composition": COMPOSITION, "full": FULL}
DETERMINISTIC = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "head_dropout": 0.0}


@pytest.fixture(params=GRAMMARS)
def grammar(request: pytest.FixtureRequest) -> str:
    """Each grammar."""
    return request.param


def read(tokenizer: ScopeTokenizer, grammar: str, *scopes: str) -> tuple[list[list[str]], Orbits]:
    ids = tokenizer(list(scopes), padding=True, return_tensors="pt")["input_ids"]
    return [tokenizer.convert_ids_to_tokens(row) for row in ids], OrbitReader(CloudConfig(grammar=grammar))(ids)


def shares(tokenizer: ScopeTokenizer, grammar: str, scope: str) -> list[tuple[str, float]]:
    """Words with a known share, and that share."""
    (words,), orbits = read(tokenizer, grammar, scope)
    found = zip(words, orbits.share[0].tolist(), orbits.known[0].tolist(), strict=True)
    return [(word, round(share, 6)) for word, share, known in found if known]


# ------------------------------------------------------------------------------------------------ reading ids


def test_generators_are_no_elements(tokenizer: ScopeTokenizer, grammar: str) -> None:
    """`C`, `O`, `P`, ... mean a translation before the first `|` and an element after it."""
    for scope in GRAMMARS[grammar]:
        (words,), orbits = read(tokenizer, grammar, scope)
        bar = words.index("|")
        assert orbits.element[0, : bar + 1].eq(0).all()
        numbers = [Element(word).Z if word.isalpha() else 0 for word in words[bar + 1 : -1]]
        assert orbits.element[0, bar + 1 :].tolist() == [*numbers, 0]


@pytest.mark.parametrize(
    ("grammar_of_it", "scope", "expected"),
    [
        ("sites", SITES[0], [("Ba", 0.2), ("3a", 0.2), ("Ti", 0.2), ("3b", 0.2), ("O", 0.6), ("9d", 0.6)]),
        ("sites", "1 0 0 | Cu 2i [MASK] 1a C [MASK]", [("Cu", 2 / 3), ("2i", 2 / 3), ("1a", 1 / 3)]),
        ("sites", "1 0 0 | [MASK] [MASK]", []),
        ("sites", "1 0 0 [MASK] Cu 2i", []),
        (
            "composition", COMPOSITION[0],
            [("3a", 0.1), ("3b", 0.1), ("6c", 0.2), ("18f", 0.6), ("Ba", 0.1), ("Ti", 0.1), ("B", 0.2), ("O", 0.6)],
        ),
        ("composition", "1 0 0 | [MASK] 1a | Cu [MASK] O 0.3", [("1a", 1.0), ("O", 0.3)]),
        ("composition", "1 0 0 | 2i | Cu 0.0", [("2i", 1.0), ("Cu", 0.0)]),
        (
            "full", FULL[0],
            [("2i", 1 / 3), ("2i", 1 / 3), ("1a", 1 / 3), ("Cu", 1 / 3), ("Cu", 1 / 3), ("O", 1 / 3)],
        ),
        ("full", "1 0 0 | 2i [MASK] | Cu [MASK]", [("2i", 1.0), ("Cu", 1.0)]),
    ],
)  # fmt: skip
def test_shares_of_the_atoms(
    tokenizer: ScopeTokenizer, grammar_of_it: str, scope: str, expected: list[tuple[str, float]]
) -> None:
    found = shares(tokenizer, grammar_of_it, scope)
    assert [word for word, _ in found] == [word for word, _ in expected]
    assert [share for _, share in found] == pytest.approx([share for _, share in expected], abs=1e-6)


def test_weights_add_up_to_one_or_are_all_zero(tokenizer: ScopeTokenizer, grammar: str) -> None:
    _, orbits = read(tokenizer, grammar, *GRAMMARS[grammar], "1 0 0 | [MASK] [MASK]", "1 0 0")
    sums = orbits.weights().sum(1).tolist()
    assert sums == pytest.approx([1.0] * len(GRAMMARS[grammar]) + [0.0, 0.0])


def test_packed_strings_are_read_as_if_alone(tokenizer: ScopeTokenizer, grammar: str) -> None:
    reader = OrbitReader(CloudConfig(grammar=grammar))
    rows = [tokenizer(scope)["input_ids"] for scope in GRAMMARS[grammar]]
    packed = reader(torch.tensor([[*chain(*rows), *[tokenizer.pad_token_id] * 3]]))
    start = 0
    for row in rows:
        alone = reader(torch.tensor([row]))
        for together, single in zip(packed, alone, strict=True):
            assert torch.equal(together[0, start : start + len(row)], single[0])
        start += len(row)
    assert not packed.known[0, start:].any()


# ------------------------------------------------------------------------------------------------ features


def features(tokenizer: ScopeTokenizer, scope: str, **fields: Any) -> tuple[list[str], torch.Tensor]:
    config = CloudConfig(grammar="sites", hidden_size=32, **fields)
    torch.manual_seed(0)
    (words,), orbits = read(tokenizer, "sites", scope)
    return words, ChemistryEmbedding(config)(orbits)[0].detach()


def test_descriptors_go_to_elements_and_multiplicities_to_both_words_of_a_pair(tokenizer: ScopeTokenizer) -> None:
    words, vectors = features(tokenizer, SITES[0], element_descriptors=True)
    touched = [word for word, vector in zip(words, vectors, strict=True) if vector.any()]
    assert touched == ["Ba", "Ti", "O"]
    words, vectors = features(tokenizer, SITES[0], site_multiplicity=True)
    touched = [word for word, vector in zip(words, vectors, strict=True) if vector.any()]
    assert touched == ["Ba", "3a", "Ti", "3b", "O", "9d"]
    rows = {word: vector for word, vector in zip(words, vectors, strict=True) if vector.any()}
    assert torch.equal(rows["O"], rows["9d"])
    assert torch.equal(rows["Ba"], rows["Ti"]), "the same share, the same feature"
    assert not torch.allclose(rows["Ba"], rows["O"])


@pytest.mark.parametrize("atoms", [10, 200])
def test_orbits_of_one_and_two_atoms_differ(tokenizer: ScopeTokenizer, atoms: int) -> None:
    share = torch.tensor([[1 / atoms, 2 / atoms]])
    orbits = Orbits(torch.zeros(1, 2, dtype=torch.long), share, torch.ones(1, 2, dtype=torch.bool))
    torch.manual_seed(0)
    one, two = ChemistryEmbedding(CloudConfig(site_multiplicity=True, hidden_size=32))(orbits)[0]
    assert (one - two).norm() > 0.05 * one.norm()


@pytest.mark.parametrize(("masked", "hidden"), [(6, ("Cu", "Na")), (7, ("2i", "1d"))], ids=["element", "Wyckoff"])
def test_a_masked_word_leaks_nothing(
    tokenizer: ScopeTokenizer, make_config: Callable[..., CloudConfig], masked: int, hidden: tuple[str, str]
) -> None:
    """Two crystals that differ in one word give the same logits once it is masked, and different ones before."""
    torch.manual_seed(2)
    model = CloudForMaskedLM(make_config(grammar="sites", initializer_range=0.2, **ALL_ON)).eval()
    base = ["1", "0", "0", "|", "O", "1a", "Cu", "2i"]
    scopes = [" ".join([*base[:masked], word, *base[masked + 1 :]]) for word in hidden]
    ids = tokenizer(scopes, return_tensors="pt")["input_ids"]
    seen = model(ids).logits
    assert not torch.allclose(seen[0], seen[1], atol=1e-3)
    ids[:, masked + 1] = tokenizer.mask_token_id
    torch.testing.assert_close(*model(ids).logits, rtol=0, atol=1e-5)
    chemistry = model.bert.chemistry(model.bert.orbits(ids))
    assert not chemistry[:, masked + 1].any()


# ------------------------------------------------------------------------------------------------ in the models


def batch_of(tokenizer: ScopeTokenizer, grammar: str, **options: Any) -> dict[str, torch.Tensor]:
    return dict(tokenizer(GRAMMARS[grammar], return_tensors="pt", **({"padding": True} | options)))


@pytest.fixture
def regression(make_config: Callable[..., CloudConfig]) -> Callable[[str], Any]:
    """Return a function that makes a model with all features for a grammar."""

    def make(grammar: str, **fields: Any) -> Any:
        torch.manual_seed(5)
        config = make_config(target_names=["y"], initializer_range=0.2, grammar=grammar, **(ALL_ON | fields))
        return CloudForPropertyRegression(config).eval()

    return make


def test_padding_changes_nothing(tokenizer: ScopeTokenizer, regression: Callable[[str], Any], grammar: str) -> None:
    model = regression(grammar)
    wide = model(**batch_of(tokenizer, grammar, padding="max_length", max_length=80)).logits
    for row, scope in enumerate(GRAMMARS[grammar]):
        alone = model(**tokenizer(scope, return_tensors="pt")).logits[0]
        torch.testing.assert_close(wide[row], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("off", ALL_ON)
def test_every_feature_changes_the_output(tokenizer: ScopeTokenizer, regression: Callable[..., Any], off: str) -> None:
    batch = batch_of(tokenizer, "sites")
    model = regression("sites")
    weights = model.state_dict()
    fewer = regression("sites", **{off: "cls" if off == "pooling" else False})
    shared = {name: value for name, value in weights.items() if name in fewer.state_dict()}
    if off == "pooling":  # the same head on [CLS] alone
        shared["classifier.layers.0.weight"] = weights["classifier.layers.0.weight"][:, :32]
    fewer.load_state_dict(shared)
    assert (fewer(**batch).logits - model(**batch).logits).abs().min() > 1e-3


def test_pooling_reads_the_weighted_mean(tokenizer: ScopeTokenizer, regression: Callable[[str], Any]) -> None:
    model, batch = regression("sites"), batch_of(tokenizer, "sites")
    states = model.bert(**batch).last_hidden_state
    weights = model.bert.orbits(batch["input_ids"]).weights()
    expected = torch.cat([states[:, 0], torch.einsum("bl,blh->bh", weights, states)], dim=-1)
    torch.testing.assert_close(model(**batch).logits, model.classifier.layers(expected))


def test_a_string_without_sites_gives_numbers(tokenizer: ScopeTokenizer, regression: Callable[[str], Any]) -> None:
    model = regression("sites").train()
    ids = tokenizer(["1 0 0 | [MASK] [MASK]", "1 0 0 [MASK] Cu 2i"], return_tensors="pt")["input_ids"]
    outputs = model(ids, labels=torch.tensor([1.0, 2.0]))
    outputs.loss.backward()
    assert outputs.logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_all_parameters_learn(tokenizer: ScopeTokenizer, regression: Callable[[str], Any], grammar: str) -> None:
    model = regression(grammar, **DETERMINISTIC)
    model(**batch_of(tokenizer, grammar), labels=torch.ones(len(GRAMMARS[grammar]))).loss.backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert all("token_type" not in name for name in unused)
    assert not [name for name in unused if "chemistry" in name or "head" in name]


@pytest.mark.parametrize("way", ["autocast", "weights"])
def test_half_precision_is_close(tokenizer: ScopeTokenizer, regression: Callable[[str], Any], way: str) -> None:
    model, batch = regression("sites"), batch_of(tokenizer, "sites")
    exact = model(**batch).logits
    if way == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(**batch).logits
    else:
        rough = model.to(torch.bfloat16)(**batch).logits
        assert model.bert.orbits.multiplicity_of.dtype == torch.long, "192 atoms stay 192 atoms"
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.1 * exact.abs().max()


def test_embeddings_alone_are_refused_and_ids_beside_them_accepted(
    tokenizer: ScopeTokenizer, regression: Callable[[str], Any]
) -> None:
    model, batch = regression("sites"), batch_of(tokenizer, "sites")
    words = model.get_input_embeddings()(batch["input_ids"])
    mask = batch["attention_mask"]
    with pytest.raises(ValueError, match="input_ids"):
        model(inputs_embeds=words, attention_mask=mask)
    beside = model(inputs_embeds=words, **batch).logits
    torch.testing.assert_close(beside, model(**batch).logits)


def test_tables_are_in_no_checkpoint(make_config: Callable[..., CloudConfig]) -> None:
    model = CloudModel(make_config(**ALL_ON))
    buffers = {name for name, _ in model.named_buffers()}
    assert {"orbits.element_of", "orbits.multiplicity_of", "orbits.percent_of", "chemistry.descriptors"} <= buffers
    assert not buffers & model.state_dict().keys()


def test_switched_off_the_parameters_are_those_of_bert(make_config: Callable[..., CloudConfig]) -> None:
    names = set(CloudModel(make_config()).state_dict())
    more = set(CloudModel(make_config(**ALL_ON)).state_dict()) - names
    assert {name.split(".")[0] for name in more} == {"chemistry"}


def test_an_encoder_without_features_is_a_start_for_one_with(
    tokenizer: ScopeTokenizer, make_config: Callable[..., CloudConfig], tmp_path: Any
) -> None:
    CloudForMaskedLM(make_config(grammar="sites")).save_pretrained(tmp_path)
    config = make_config(grammar="sites", target_names=["y"], **ALL_ON)
    model, info = CloudForPropertyRegression.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert {name.split(".")[1] if name.startswith("bert.") else "head" for name in info["missing_keys"]} == {
        "chemistry", "head",
    }  # fmt: skip
    assert math.isfinite(model(**batch_of(tokenizer, "sites")).logits.sum().item())
    assert model.bert.orbits.element_of.max() == 118, "the tables are filled although no checkpoint holds them"
