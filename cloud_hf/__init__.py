"""CLOUD for the Hugging Face ecosystem: crystals in, physical predictions out.

Importing this package is quick: its names are loaded when they are first used, so that encoding crystals and the
command's help need neither torch nor transformers.

transformers' Auto classes and `pipeline` know CLOUD once one of the names that need transformers, or `bundled_model`,
was used, e.g. `from cloud_hf import CloudConfig`; at once if the Auto classes were imported before this package; and in
any case after `cloud_hf.register()`.
"""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloud_hf.checkpoints.bundled import DEFAULT_HEAD, bundled_heads, bundled_model
    from cloud_hf.checkpoints.registration import register
    from cloud_hf.data.strings import encode
    from cloud_hf.errors import CloudError
    from cloud_hf.inference.api import embed, predict
    from cloud_hf.models.configuration_cloud import CloudConfig
    from cloud_hf.models.modeling_cloud import (
        CloudForDebye,
        CloudForMaskedLM,
        CloudForPropertyRegression,
        CloudModel,
        CloudPreTrainedModel,
    )
    from cloud_hf.models.modeling_properties import CloudForCrystalProperties
    from cloud_hf.models.pipeline_cloud import CrystalPropertyPipeline
    from cloud_hf.models.tokenization_scope import ScopeTokenizer, grammar_of
    from cloud_hf.scope import EncodedCrystal, ScopeEncoder
    from cloud_hf.screening.api import screen
    from cloud_hf.screening.search import search

try:
    __version__ = version("cloud-hf")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "DEFAULT_HEAD",
    "CloudConfig",
    "CloudError",
    "CloudForCrystalProperties",
    "CloudForDebye",
    "CloudForMaskedLM",
    "CloudForPropertyRegression",
    "CloudModel",
    "CloudPreTrainedModel",
    "CrystalPropertyPipeline",
    "EncodedCrystal",
    "ScopeEncoder",
    "ScopeTokenizer",
    "__version__",
    "bundled_heads",
    "bundled_model",
    "embed",
    "encode",
    "grammar_of",
    "predict",
    "register",
    "screen",
    "search",
]

_MODULE_OF = {
    "DEFAULT_HEAD": "checkpoints.bundled",
    "CloudConfig": "models.configuration_cloud",
    "CloudError": "errors",
    "CloudForCrystalProperties": "models.modeling_properties",
    "CloudForDebye": "models.modeling_cloud",
    "CloudForMaskedLM": "models.modeling_cloud",
    "CloudForPropertyRegression": "models.modeling_cloud",
    "CloudModel": "models.modeling_cloud",
    "CloudPreTrainedModel": "models.modeling_cloud",
    "CrystalPropertyPipeline": "models.pipeline_cloud",
    "EncodedCrystal": "scope",
    "ScopeEncoder": "scope",
    "ScopeTokenizer": "models.tokenization_scope",
    "bundled_heads": "checkpoints.bundled",
    "bundled_model": "checkpoints.bundled",
    "embed": "inference.api",
    "encode": "data.strings",
    "grammar_of": "models.tokenization_scope",
    "predict": "inference.api",
    "register": "checkpoints.registration",
    "screen": "screening.api",
    "search": "screening.search",
}

_LIGHT = frozenset(
    {"DEFAULT_HEAD", "CloudError", "EncodedCrystal", "ScopeEncoder", "bundled_heads", "encode", "register"}
)
"""Names that are used without transformers, or before it is asked to know CLOUD; any other registers CLOUD."""


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _LIGHT:
        import_module(f"{__name__}.checkpoints.registration")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if "transformers.models.auto.configuration_auto" in sys.modules:
    import_module(f"{__name__}.checkpoints.registration")
