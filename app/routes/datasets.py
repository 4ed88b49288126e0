"""The data sets that jobs can name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

from app.datasets import Dataset
from app.jobs import Record
from app.problems import responses
from app.routes.dependencies import DatasetsHere

router = APIRouter(tags=["datasets"])


class DatasetList(Record):
    """Data sets."""

    data: list[Dataset] = Field(description="Built-in ones first, then own ones by name.")


@router.get("/datasets", response_model=DatasetList, responses=responses())
def list_datasets(datasets: DatasetsHere) -> DatasetList:
    """Built-in data sets, and own ones: `<name>.tar`, `<name>.zip` or a folder `<name>/` in the data sets' folder,
    with `train/<class>/*` and `test/<class>/*` in it."""
    return DatasetList(data=datasets.list())


@router.get("/datasets/{name}", response_model=Dataset, responses=responses(404, 422))
def get_dataset(
    datasets: DatasetsHere,
    name: Annotated[str, Path(description="Name of a data set.", max_length=63, examples=["cifar10"])],
) -> Dataset:
    """One data set."""
    return datasets.get(name)
