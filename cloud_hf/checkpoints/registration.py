"""Make CLOUD known to transformers: Auto classes, remote code, the pipeline, and cards with every push."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.pipelines import PIPELINE_REGISTRY

from cloud_hf.checkpoints.bundled import bundled_heads, bundled_model
from cloud_hf.checkpoints.hub import TASK, carry_cards
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
from cloud_hf.models.tokenization_scope import ScopeTokenizer

__all__ = ["TASK", "register"]


def register() -> None:
    """Register every class; calling it again changes nothing."""
    AutoConfig.register("cloud", CloudConfig, exist_ok=True)
    AutoTokenizer.register(CloudConfig, tokenizer_class=ScopeTokenizer, exist_ok=True)
    AutoModel.register(CloudConfig, CloudModel, exist_ok=True)
    AutoModelForMaskedLM.register(CloudConfig, CloudForMaskedLM, exist_ok=True)
    heads = (CloudForPropertyRegression, CloudForDebye, CloudForCrystalProperties)
    AutoModelForSequenceClassification.register(CloudConfig, heads, exist_ok=True)

    CloudConfig.register_for_auto_class()
    ScopeTokenizer.register_for_auto_class()
    CloudModel.register_for_auto_class("AutoModel")
    CloudForMaskedLM.register_for_auto_class("AutoModelForMaskedLM")
    for head in heads:
        head.register_for_auto_class("AutoModelForSequenceClassification")

    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        default = {"model": (bundled_model(), "main")} if bundled_heads() else None
        PIPELINE_REGISTRY.register_pipeline(
            TASK,
            pipeline_class=CrystalPropertyPipeline,
            pt_model=AutoModelForSequenceClassification,
            default=default,
            type="text",
        )
        # a saved pipeline writes this into its config.json: the bundled checkpoint's place on this machine stays out
        task = {key: value for key, value in PIPELINE_REGISTRY.supported_tasks[TASK].items() if key != "default"}
        CrystalPropertyPipeline._registered_impl = {TASK: task}  # type: ignore[attr-defined]
        for kind in (CloudConfig, ScopeTokenizer, CloudPreTrainedModel, CrystalPropertyPipeline):
            carry_cards(kind)
