"""The evaluation of a model on a split: scikit-learn's figures over the logits of the trainer's `predict`."""

from __future__ import annotations

import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch.nn import functional as F

from app.specs import ClassFigures, Evaluation, Mistake
from worker.training.data import Data
from worker.training.models import Classifier
from worker.training.trainer import predict

_MISTAKES = 24


def evaluate(model: Classifier, data: Data) -> Evaluation:
    """Loss, accuracy, weighted precision, recall and F1, per-class figures and the confusion matrix on the test
    split, in fp32. A class that is never predicted has precision 0."""
    logits, labels = predict(model, data.test)
    loss = F.cross_entropy(logits, labels).item()
    truth, taken = labels.cpu().numpy(), logits.argmax(1).cpu().numpy()
    classes = range(len(data.classes))
    matrix = confusion_matrix(truth, taken, labels=list(classes))

    def figures(average: str | None) -> tuple[list[float], list[float], list[float], list[int]]:
        found = precision_recall_fscore_support(truth, taken, labels=list(classes), average=average, zero_division=0)
        return found  # type: ignore[no-any-return]

    precision, recall, f1, support = figures(None)
    weighted = figures("weighted")
    return Evaluation(
        samples=len(truth),
        loss=loss,
        accuracy=float((truth == taken).mean()),
        precision=float(weighted[0]),  # type: ignore[arg-type]
        recall=float(weighted[1]),  # type: ignore[arg-type]
        f1=float(weighted[2]),  # type: ignore[arg-type]
        per_class=tuple(
            ClassFigures(
                label=label,
                name=data.classes[label],
                precision=float(precision[label]),
                recall=float(recall[label]),
                f1=float(f1[label]),
                support=int(support[label]),
            )
            for label in classes
        ),
        confusion_matrix=tuple(tuple(int(count) for count in row) for row in matrix),
        mistakes=_mistakes(logits, labels),
    )


def _mistakes(logits: torch.Tensor, labels: torch.Tensor) -> tuple[Mistake, ...]:
    """The most confident of them, of logits `[N, classes]` for labels `[N]`."""
    confidence, predicted = logits.softmax(1).max(1)
    wrong = (predicted != labels).nonzero().flatten()
    order = confidence[wrong].argsort(descending=True, stable=True)
    return tuple(
        Mistake(index=row, label=int(labels[row]), predicted=int(predicted[row]), confidence=float(confidence[row]))
        for row in wrong[order[:_MISTAKES]].tolist()
    )
