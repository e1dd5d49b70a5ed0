"""`ModelTesterMixin` and `ConfigTester` of transformers over every CLOUD class, with stock BERT as the control.

Not run: the mixins of generation and of exporters, whose modules the archive lacks (CLOUD generates nothing; export has
tests of its own), and the pipeline mixin, which lives on tiny models of the Hub (`tests/checkpoints/test_bundled.py`
runs the stock pipelines on the bundled checkpoint).
"""

from __future__ import annotations

import unittest
from typing import Any

import pytest
from mixin_tests.test_configuration_common import ConfigTester
from mixin_tests.test_modeling_common import ModelTesterMixin
from testers import BERT, CONTROL, MODELS, ModelTester, refused

from cloud_hf import CloudConfig
from cloud_hf.errors import CheckpointError, CloudError

pytestmark = pytest.mark.slow


class CommonTests(ModelTesterMixin):
    """The mixin for the class and the configuration in `model`."""

    model: tuple[type, dict[str, Any]]

    def setUp(self) -> None:
        self.model_tester = ModelTester(*self.model)


class CloudTests(CommonTests):
    """CLOUD's classes: labels as their losses take them, and refusals where stock BERT lets things pass."""

    def _prepare_for_class(self, inputs_dict: Any, model_class: type, return_labels: bool = False) -> Any:
        inputs = super()._prepare_for_class(inputs_dict, model_class)
        return inputs | ({"labels": self.model_tester.labels()} if return_labels else {})

    # an encoder is never random for want of weights: tests/checkpoints/test_published_weights.py
    test_model_weights_reload_no_missing_tied_weights = refused(
        CommonTests.test_model_weights_reload_no_missing_tied_weights, CheckpointError, "weights are missing"
    )


class ChemistryTests(CloudTests):
    """Those that read elements and multiplicities off the ids."""

    # embeddings come beside the ids, not in their place: tests/models/test_embeddings_cloud.py
    test_inputs_embeds = refused(CommonTests.test_inputs_embeds, ValueError, "pass input_ids")
    # the vocabulary grows and shrinks, but not below the words whose elements and sites are looked up
    test_resize_tokens_embeddings = refused(
        CommonTests.test_resize_tokens_embeddings, CloudError, "no fewer are possible"
    )


def suite(name: str, kind: type, model: tuple[type, dict[str, Any]]) -> type:
    fields = {"model": model, "all_model_classes": (model[0],), "__module__": __name__}
    return type(name, (kind, unittest.TestCase), fields)


for _name, _model in MODELS.items():
    _kind = ChemistryTests if "pooling" in _model[1] else CloudTests
    globals()[f"Test{_name}"] = suite(f"Test{_name}", _kind, _model)
for _name, _model in BERT.items():
    globals()[f"TestBert{_name}"] = suite(f"TestBert{_name}", CommonTests, _model)


class TestConfig(unittest.TestCase):
    def test_config(self) -> None:
        ConfigTester(self, config_class=CloudConfig, hidden_size=36).run_common_tests()


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_skipped_that_stock_bert_passes(name: str, outcomes: dict[str, dict[str, str]]) -> None:
    mine, stock = outcomes.get(f"Test{name}", {}), outcomes.get(f"TestBert{CONTROL[name]}", {})
    if not (mine and stock):
        pytest.skip("both have to be run")
    assert [test for test, outcome in mine.items() if outcome == "skipped" and stock.get(test) == "passed"] == []
