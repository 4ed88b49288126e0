"""The spec of a training job (Pydantic): the vocabulary that the API and the worker share.

This package imports nothing of ours. Every field has a default, a description, limits and an example,
so the OpenAPI page explains itself, and `JobSpec()` is the lab's Exercise 1.
"""

from app.specs.job import (
    BEST,
    LAST,
    DatasetName,
    DatasetSpec,
    EarlyStoppingSpec,
    InitFromSpec,
    JobSpec,
    Name,
    Tag,
    Tags,
    TrackingSpec,
    TrainingSpec,
    WandbSpec,
)
from app.specs.models import TORCHVISION, CNNSpec, LinearProbeSpec, MLPSpec, ModelSpec, ResNetSpec, TorchvisionSpec
from app.specs.optimizers import (
    AdamSpec,
    AdamWSpec,
    CosineSpec,
    NoSchedulerSpec,
    OneCycleSpec,
    OptimizerSpec,
    PlateauSpec,
    SchedulerSpec,
    SGDSpec,
    StepSpec,
)
from app.specs.results import ClassFigures, EpochRow, Evaluation, Figures, Mistake, StopReason
from app.specs.value import Value

__all__ = [
    "BEST",
    "LAST",
    "TORCHVISION",
    "AdamSpec",
    "AdamWSpec",
    "CNNSpec",
    "ClassFigures",
    "CosineSpec",
    "DatasetName",
    "DatasetSpec",
    "EarlyStoppingSpec",
    "EpochRow",
    "Evaluation",
    "Figures",
    "InitFromSpec",
    "JobSpec",
    "LinearProbeSpec",
    "MLPSpec",
    "Mistake",
    "ModelSpec",
    "Name",
    "NoSchedulerSpec",
    "OneCycleSpec",
    "OptimizerSpec",
    "PlateauSpec",
    "ResNetSpec",
    "SGDSpec",
    "SchedulerSpec",
    "StepSpec",
    "StopReason",
    "Tag",
    "Tags",
    "TorchvisionSpec",
    "TrackingSpec",
    "TrainingSpec",
    "Value",
    "WandbSpec",
]
