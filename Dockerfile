# Two images: `api` (no torch, some 350 MB of packages) and `worker` (torch, torchvision, wandb).
#   docker build --target api .        docker build --target worker .
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS base
# Where pip finds packages: its own settings, for sites with an index of their own. A stage does not inherit them.
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
ARG PIP_CONSTRAINT
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN useradd --uid 1000 --create-home whistlestop \
    && mkdir /data && chown whistlestop:whistlestop /data
ENV WHISTLESTOP_DATA_DIR=/data WHISTLESTOP_HOST=0.0.0.0
WORKDIR /srv
# The dependencies first, beside empty packages: a change of the code does not install them again.
COPY pyproject.toml README.md ./
RUN mkdir app worker examples && touch app/__init__.py worker/__init__.py && pip install .

FROM base AS api
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
ARG PIP_CONSTRAINT
COPY app app
COPY worker worker
COPY examples examples
RUN pip install --no-deps --force-reinstall . && rm -rf /srv/*
USER whistlestop
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:8000/readyz').raise_for_status()"]
CMD ["python", "-m", "app"]

FROM base AS worker
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
ARG PIP_CONSTRAINT
# An extra index with the torch of the machine, e.g. https://download.pytorch.org/whl/cpu; empty: PyPI's (CUDA).
ARG TORCH_INDEX
RUN pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} '.[worker]'
COPY app app
COPY worker worker
COPY examples examples
RUN pip install --no-deps --force-reinstall . && rm -rf /srv/*
USER whistlestop
VOLUME /data
STOPSIGNAL SIGTERM
CMD ["python", "-m", "worker"]
