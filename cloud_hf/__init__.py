"""CLOUD for the Hugging Face ecosystem: crystals in, physical predictions out.

Importing this package registers CLOUD with the Auto classes and the `crystal-property` pipeline with transformers.
"""

from importlib.metadata import PackageNotFoundError, version

from cloud_hf.bundled import DEFAULT_HEAD, bundled_heads, bundled_model
from cloud_hf.configuration_cloud import CloudConfig
from cloud_hf.errors import CloudError
from cloud_hf.modeling_cloud import (
    CloudForDebye,
    CloudForMaskedLM,
    CloudForPropertyRegression,
    CloudModel,
    CloudPreTrainedModel,
)
from cloud_hf.pipeline_cloud import CrystalPropertyPipeline
from cloud_hf.registration import register
from cloud_hf.scope import EncodedCrystal, ScopeEncoder
from cloud_hf.tokenization_scope import ScopeTokenizer, grammar_of

try:
    __version__ = version("cloud-hf")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

register()

__all__ = [
    "DEFAULT_HEAD",
    "CloudConfig",
    "CloudError",
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
    "grammar_of",
]
