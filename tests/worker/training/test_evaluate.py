"""The evaluation equals scikit-learn's own figures."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from sklearn import metrics

from tests.worker.training.conftest import spec_of
from tests.worker.training.test_trainer import run
from worker.training.data import Data, Split
from worker.training.evaluate import evaluate


@pytest.mark.parametrize("parts", [{"training": {"max_epochs": 1}}, {"optimizer": {"lr": 0.01}}])
def test_it_equals_scikit_learn_to_a_millionth(digits: Data, parts: dict[str, object]) -> None:
    training, _ = run(spec_of(**parts), digits)
    shares = training.model.predict(digits.test.images).double()
    truth, taken = digits.test.labels.numpy(), shares.argmax(1).numpy()
    found = evaluate(training.model, digits)
    assert found.samples == 360
    assert found.loss == pytest.approx(metrics.log_loss(truth, shares / shares.sum(1, keepdim=True)), abs=1e-6)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, taken), abs=1e-6)
    weighted = {"average": "weighted", "zero_division": 0}
    assert found.precision == pytest.approx(metrics.precision_score(truth, taken, **weighted), abs=1e-6)
    assert found.recall == pytest.approx(metrics.recall_score(truth, taken, **weighted), abs=1e-6)
    assert found.f1 == pytest.approx(metrics.f1_score(truth, taken, **weighted), abs=1e-6)
    assert found.confusion_matrix == tuple(map(tuple, metrics.confusion_matrix(truth, taken)))
    report = metrics.classification_report(truth, taken, output_dict=True, zero_division=0)
    for figures in found.per_class:
        theirs = report[figures.name]
        ours = (figures.precision, figures.recall, figures.f1, figures.support)
        assert ours == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"]), abs=1e-6
        )


def test_a_class_that_is_absent_from_the_split_counts_as_none(digits: Data) -> None:
    training, _ = run(spec_of(), digits)
    rows = torch.nonzero(digits.test.labels < 9).flatten()
    found = evaluate(
        training.model, dataclasses.replace(digits, test=Split(digits.test.images, digits.test.labels, rows))
    )
    assert (found.samples, found.per_class[9].support, found.per_class[9].recall) == (len(rows), 0, 0.0)
    assert len(found.confusion_matrix) == 10
    assert sum(map(sum, found.confusion_matrix)) == len(rows)
