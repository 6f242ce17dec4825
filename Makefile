# `make` lists the targets. All that a fresh machine needs is make and Python 3.11 or newer.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TYPED  := build/typed
PEERS  := .peers

SEEDS  := 0 2000
JOBS   := 2

.DEFAULT_GOAL := help
.PHONY: help demo test lint types format bless agree library bench lengths costs docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## check and draw Hope, train a small one for about two minutes, let it write
	$(BIN)/nldsl check examples/hope.nl
	$(BIN)/nldsl draw examples/hope.nl -o hope.svg
	rm -rf build/demo
	$(BIN)/nldsl train examples/hope.nl --out build/demo --steps 120 --batch 8 --length 128 \
	  --set dim=64 --set depth=1 --set heads=4 --set 'periods=[32, 64]' --set lr=2e-3
	$(BIN)/nldsl generate build/demo --prompt 'def read(' --temperature 0.8

test: lint types ## everything a change has to pass
	$(BIN)/pytest -n 2

lint: $(READY) ## style and format, nothing rewritten
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Types are checked on the installed package, not on the folders: `compiler/` is `nldsl.compiler` only once installed.
types: $(READY)
	rm -rf build
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --target $(TYPED) .
	cd $(TYPED) && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p nldsl

format: $(READY) ## rewrite the Python files in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bless: $(READY) ## accept today's diagnostics, graphs and drawings as the expected ones; read the diff
	$(BIN)/pytest -n 2 --bless
	git status --short tests

agree: $(READY) ## compare thousands of random programs with the reference interpreter; SEEDS="FIRST COUNT", JOBS
	$(BIN)/python benchmarks/agree.py --seeds $(SEEDS) --jobs $(JOBS)

library: $(READY) ## compare, train, run and examine every program of the library; what `nldsl list` shows of it
	$(BIN)/python benchmarks/check_library.py

bench: $(READY) $(PEERS)/.ready ## speed next to peers, side by side: hours; SPEED="--only NAME --rounds N" for a part
	$(BIN)/python -m benchmarks.speed $(SPEED)

lengths: $(READY) ## what a token costs the library's programs as texts get longer, up to 65 536 tokens
	$(BIN)/python -m benchmarks.lengths

costs: $(READY) ## compare what `nldsl cost` says of every program of the library with real runs
	$(BIN)/python -m benchmarks.costs

docs: $(READY) ## write the chapters on the library anew, from its files
	$(BIN)/python docs/chapters.py

clean: ## remove the environment, builds and caches
	rm -rf $(VENV) $(PEERS) build dist *.egg-info hope.svg .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find nldsl compiler stdlib tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'Python 3.11 or newer is needed; name one with `make PYTHON=python3.12 …`'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,draw]'
	touch $@

# A folder, not an environment: the peers run on the environment's own torch.
$(PEERS)/.ready: benchmarks/peers.txt | $(READY)
	rm -rf $(PEERS)
	$(BIN)/pip install --quiet --no-deps --target $(PEERS) -r benchmarks/peers.txt
	touch $@
