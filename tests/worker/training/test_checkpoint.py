"""Checkpoint files: a download is all that it takes, and nothing untrusted is unpickled."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from app.specs import JobSpec
from tests.worker.training.conftest import spec_of
from tests.worker.training.test_trainer import begin, run
from worker.training import load_model
from worker.training.checkpoint import BadCheckpoint, init_from_parent, save_model
from worker.training.data import Data
from worker.training.models import Classifier, build_net, head_names
from worker.training.trainer import predict

HEAD = frozenset({"net.head.weight", "net.head.bias"})


@pytest.fixture(scope="module")
def saved(digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best_model.pth of a short run."""
    return save(digits, spec_of(name="parent"), tmp_path_factory.mktemp("saved") / "best_model.pth")


def save(digits: Data, spec: JobSpec, path: Path) -> Path:
    training, epochs = run(spec, digits)
    with path.open("wb") as out:
        save_model(out, training, digits, spec, epochs[-1].row.val_loss)
    return path


def test_a_download_gives_the_trained_model_back(saved: Path, digits: Data) -> None:
    model = load_model(saved)
    training, epochs = run(spec_of(name="parent"), digits)
    logits, _ = predict(training.model, digits.test)
    shares = model.predict(digits.test.images)
    assert torch.equal(shares, logits.softmax(1))
    assert torch.allclose(shares.sum(1), torch.ones(len(shares)))
    assert (model.classes, model.epoch, model.spec.name) == (tuple("0123456789"), 4, "parent")
    assert model.val_loss == epochs[-1].row.val_loss
    assert not model.training


def test_it_loads_with_nothing_but_tensors_numbers_and_strings(saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    assert set(content) == {"format", "spec", "input_shape", "classes", "epoch", "val_loss", "state_dict"}


def test_it_loads_in_a_bare_process_without_a_database(saved: Path, tmp_path: Path) -> None:
    """Neither the store nor its SQL is imported for it."""
    code = f"""
import sys
from worker.training import load_model
model = load_model({str(saved)!r})
print(model.spec.model.hidden, *sorted({{"sqlalchemy", "fastapi", "wandb", "app.store"}} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "(32, 16)", found.stderr


class Bomb:
    """What a pickle can do."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


def test_a_pickle_that_would_run_code_is_refused_unrun(tmp_path: Path) -> None:
    for name, dump in (("torch", torch.save), ("plain", lambda *what: pickle.dump(*what, protocol=2))):
        path, target = tmp_path / f"{name}.pth", tmp_path / f"{name}-ran"
        with path.open("wb") as out:
            dump({"format": "whistlestop.model/1", "state_dict": Bomb(target)}, out)  # type: ignore[operator]
        with pytest.raises(BadCheckpoint, match="damaged or no checkpoint"):
            load_model(path)
        assert not target.exists()


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_a_file_that_is_cut_off_is_refused(saved: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.pth"
    path.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(BadCheckpoint, match=str(path)):
        load_model(path)


def test_another_file_of_torch_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(BadCheckpoint, match="format None, expected"):
        load_model(tmp_path / "other.pth")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none.pth")


def test_a_child_takes_its_parent_s_weights(saved: Path, digits: Data) -> None:
    parent = load_model(saved).state_dict()
    child = begin(spec_of(), digits).model
    init_from_parent(saved, child, HEAD)
    weights = child.state_dict()
    assert all(torch.equal(weights[name], parent[name]) for name in weights if name.startswith("net."))


def test_a_head_for_other_classes_keeps_its_fresh_weights(saved: Path, digits: Data) -> None:
    child = Classifier(build_net(spec_of().model, digits.shape, 7), digits.mean, digits.std)
    fresh = {name: child.state_dict()[name].clone() for name in HEAD}
    init_from_parent(saved, child, head_names(spec_of().model, digits.shape, 7))
    assert all(torch.equal(child.state_dict()[name], fresh[name]) for name in HEAD)
    hidden = "net.layers.0.linear.weight"
    assert torch.equal(child.state_dict()[hidden], load_model(saved).state_dict()[hidden])


def test_a_parent_of_another_shape_is_refused_with_the_shapes(saved: Path, digits: Data) -> None:
    child = begin(spec_of(model={"hidden": [32, 8]}), digits).model
    with pytest.raises(BadCheckpoint, match=r"\(8, 32\) here, \(16, 32\) there"):
        init_from_parent(saved, child, HEAD)
