"""The data sets that jobs can name: list, upload, delete, and a picture of each."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response, status
from pydantic import Field

from app.datasets import Dataset
from app.jobs import Record
from app.problems import BODY, responses
from app.routes.dependencies import DatasetsHere
from app.specs import DatasetName
from app.store import NotRecorded

router = APIRouter(tags=["datasets"])

Named = Annotated[str, Path(description="Name of a data set.", max_length=63, examples=["cifar10"])]


class DatasetList(Record):
    """Data sets."""

    data: list[Dataset] = Field(description="Built-in ones first, then own ones by name.")


@router.get("/datasets", response_model=DatasetList, responses=responses())
def list_datasets(datasets: DatasetsHere) -> DatasetList:
    """Built-in data sets, and own ones: uploaded, or `<name>.tar`, `<name>.zip` or a folder `<name>/` in the data
    sets' folder, with `train/<class>/*` and `test/<class>/*` in it."""
    return DatasetList(data=datasets.list())


_ARCHIVE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("application/x-tar", "application/zip", "application/gzip", "application/octet-stream")
        },
    }
}


@router.post(
    "/datasets",
    status_code=status.HTTP_201_CREATED,
    response_model=Dataset,
    responses=responses(*BODY, 409, 422, 507),
    openapi_extra=_ARCHIVE,
)
async def create_dataset(
    datasets: DatasetsHere,
    request: Request,
    response: Response,
    name: Annotated[DatasetName, Query(description="Name, for `dataset.name` of a spec.", examples=["pets"])],
) -> Dataset:
    """Upload own images: a .tar, .tar.gz or .zip with `train/<class>/*` and `test/<class>/*` in it, as the body.

    It is looked through before it is accepted: every image is decoded, and what is wrong is named. Images take the
    most frequent size of the training images, with no side over 224 pixels; others are scaled to cover it and cut at
    the centre. They are grey where all of them are grey, else RGB.
    """
    added = await datasets.add(name, request.stream(), request.app.state.max_upload_bytes)
    response.headers["Location"] = f"/datasets/{name}"
    return added


@router.get("/datasets/{name}", response_model=Dataset, responses=responses(404, 422))
def get_dataset(datasets: DatasetsHere, name: Named) -> Dataset:
    """One data set."""
    return datasets.get(name)


@router.get(
    "/datasets/{name}/contact-sheet.png",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **responses(404, 422)},
)
def get_contact_sheet(datasets: DatasetsHere, name: Named) -> Response:
    """A picture of a prepared data set: a row of training images for each class."""
    return Response(datasets.contact_sheet(name), media_type="image/png")


@router.get(
    "/datasets/{name}/test/{index}.png",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **responses(404, 422)},
)
def get_test_image(
    datasets: DatasetsHere,
    name: Named,
    index: Annotated[int, Path(ge=0, lt=2**31, description="Place in the test split, from 0.", examples=[8])],
) -> Response:
    """One image of the test split of a prepared data set, as it is."""
    try:
        png = datasets.test_image(name, index)
    except IndexError as error:
        raise NotRecorded(f"In data set '{name}' {error}.") from error
    return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


@router.delete("/datasets/{name}", status_code=204, response_class=Response, responses=responses(404, 409, 422))
def delete_dataset(datasets: DatasetsHere, name: Named) -> Response:
    """Delete an uploaded data set. Jobs that wait for it will fail; those that run go on."""
    datasets.delete(name)
    return Response(status_code=204)
