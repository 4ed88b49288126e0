"""What training says: epoch rows, stop reason, evaluation."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from app.specs.value import Value


class StopReason(StrEnum):
    """Why training ended. Each of them is a success."""

    MAX_EPOCHS = "max_epochs"
    STAGNATION = "stagnation"
    OVERFITTING = "overfitting"
    TIME_LIMIT = "time_limit"
    REQUESTED = "requested"


class EpochRow(Value):
    """The metrics of one epoch. Losses are means over images; accuracies are shares of 1."""

    epoch: int = Field(ge=1, description="Number of the epoch, from 1.", examples=[1])
    train_loss: float = Field(description="Mean training loss, in training mode.", examples=[0.41])
    train_acc: float = Field(description="Training accuracy, in training mode.", examples=[0.88])
    val_loss: float = Field(description="Mean loss on the validation split.", examples=[0.19])
    val_acc: float = Field(description="Accuracy on the validation split.", examples=[0.94])
    lr: float = Field(description="Learning rate of the epoch's last step.", examples=[0.001])
    seconds: float = Field(description="Duration of training and validation, in seconds.", examples=[0.71])
    samples_per_second: float = Field(description="Training images per second.", examples=[84000.0])


class ClassFigures(Value):
    """One class of an evaluation."""

    label: int = Field(ge=0, description="Number of the class.", examples=[3])
    name: str = Field(description="Name of the class.", examples=["3"])
    precision: float = Field(description="Precision.", examples=[0.98])
    recall: float = Field(description="Recall.", examples=[0.97])
    f1: float = Field(description="F1.", examples=[0.975])
    support: int = Field(ge=0, description="Test images of the class.", examples=[1010])


class Figures(Value):
    """The best weights on the test split, in numbers. Precision, recall and F1 are weighted by class support."""

    split: Literal["test"] = Field("test", description="The split.", examples=["test"])
    samples: int = Field(ge=1, description="Test images.", examples=[10000])
    loss: float = Field(description="Mean cross-entropy.", examples=[0.0824])
    accuracy: float = Field(description="Accuracy.", examples=[0.9768])
    precision: float = Field(description="Weighted precision.", examples=[0.9769])
    recall: float = Field(description="Weighted recall.", examples=[0.9768])
    f1: float = Field(description="Weighted F1.", examples=[0.9768])


class Mistake(Value):
    """A test image that was taken for another class."""

    index: int = Field(
        ge=0, description="Place in the test split: `GET /datasets/{name}/test/{index}.png`.", examples=[8]
    )
    label: int = Field(ge=0, description="Number of its class.", examples=[5])
    predicted: int = Field(ge=0, description="Number of the class that it was taken for.", examples=[6])
    confidence: float = Field(ge=0, le=1, description="Probability that the model gave to that.", examples=[0.998])


class Evaluation(Figures):
    """The best weights on the test split, class by class too."""

    per_class: Annotated[tuple[ClassFigures, ...], Field(strict=False)] = Field(description="Each class.")
    confusion_matrix: Annotated[tuple[Annotated[tuple[int, ...], Field(strict=False)], ...], Field(strict=False)] = (
        Field(description="`confusion_matrix[i][j]`: images of class i that were taken for class j.")
    )
    mistakes: Annotated[tuple[Mistake, ...], Field(strict=False)] = Field(
        (), description="The most confidently wrong test images, at most 24."
    )
