"""Make CLOUD known to transformers: Auto classes, tokenizer, and the `crystal-property` pipeline.

Importing this module registers. The package takes transformers' Auto classes from here, where they know CLOUD.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.pipelines import PIPELINE_REGISTRY

from cloud_hf.checkpoints.bundled import DEFAULT_HEAD, bundled_heads, bundled_model
from cloud_hf.models.configuration_cloud import TASK, CloudConfig
from cloud_hf.models.modeling_cloud import CloudForDebye, CloudForMaskedLM, CloudForPropertyRegression, CloudModel
from cloud_hf.models.modeling_properties import CloudForCrystalProperties
from cloud_hf.models.pipeline_cloud import CrystalPropertyPipeline
from cloud_hf.models.tokenization_scope import ScopeTokenizer

__all__ = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForMaskedLM",
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "register",
]


def register() -> None:
    """Register every class with transformers, so that its Auto classes and `pipeline` find them without remote code.

    Using a class of this package, or `cloud_hf.bundled_model`, does it too. Calling it again changes nothing.
    """
    AutoConfig.register(CloudConfig.model_type, CloudConfig, exist_ok=True)
    AutoTokenizer.register(CloudConfig, tokenizer_class=ScopeTokenizer, exist_ok=True)
    AutoModel.register(CloudConfig, CloudModel, exist_ok=True)
    AutoModelForMaskedLM.register(CloudConfig, CloudForMaskedLM, exist_ok=True)
    heads = (CloudForPropertyRegression, CloudForDebye, CloudForCrystalProperties)
    AutoModelForSequenceClassification.register(CloudConfig, heads, exist_ok=True)
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            TASK,
            pipeline_class=CrystalPropertyPipeline,
            pt_model=AutoModelForSequenceClassification,
            default={"model": (bundled_model(), "main")} if DEFAULT_HEAD in bundled_heads() else None,
            type="text",
        )


register()
