# Two commands do all set-up: `make demo` and `make test`. CONTRIBUTING.md says what the others are for.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
BUILT  := $(VENV)/.built
PYX    := $(wildcard cext/*.pyx cext/*.pxd)
TESTERS := 4# processes that share the tests: most of the time they wait, for broker, board or a second that has to pass

.PHONY: help build demo test test-arm check format docs bench dist image acceptance acceptance-image clean

help:
	@echo "make demo    the whole agent against a charging site in a box, told live"
	@echo "make test    install what the tests need, run them"
	@echo "make check   format, lint and types"
	@echo "make docs    write the generated pages anew"
	@echo "make bench   measure against peers, side by side"
	@echo "make dist    packages and signed bundles for amd64, arm64, armhf (KEYS=folder HARDWARE=models)"
	@echo "make test-arm   the tests on emulated arm64 and armhf; needs root"
	@echo "make acceptance   the package on a real systemd in a container; needs root"
	@echo "make image   a bootable disk image for arm64 boards; needs root"
	@echo "make acceptance-image   the image, booted in an emulated machine"
	@echo "make build   the virtual environment in $(VENV), the extensions compiled"

build: $(BUILT)

$(BUILT): pyproject.toml setup.py constraints.txt $(PYX) scripts/prerequisites
	@scripts/prerequisites build
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel Cython
	@$(BIN)/pip install --disable-pip-version-check -c constraints.txt --no-build-isolation -e .[sim,maker,router,dev] \
		> $(VENV)/build.log 2>&1 || { cat $(VENV)/build.log; exit 1; }
	@touch $@

demo: build
	@$(BIN)/python -m sim.demo

test: build
	@scripts/prerequisites test
	@$(BIN)/python -m pytest -n $(TESTERS) --no-loadscope-reorder --reruns 1 --rerun-show-tracebacks -rfER

check: build
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint cext/*.pyx

format: build
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: build
	@$(BIN)/python -m agent.protocol.page > docs/protocol.md
	@$(BIN)/python -m agent.power.registers_page > docs/registers.md
	@$(BIN)/python -m agent.states_page > docs/states.md
	@$(BIN)/python -m agent.updates_page > docs/updates.md
	@$(BIN)/python -m agent.config_page > systemd/pile.toml.example

bench: build
	@scripts/prerequisites bench
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt msgspec pydantic matplotlib
	@$(BIN)/python -m bench

dist: build
	@scripts/prerequisites dist
	@scripts/dist $(if $(KEYS),--keys $(KEYS)) $(foreach model,$(HARDWARE),--hardware $(model)) \
		$(if $(PASSPHRASE_FILE),--passphrase-file $(PASSPHRASE_FILE))

test-arm: build
	@scripts/prerequisites arm
	@scripts/arm-tests

acceptance: build
	@scripts/prerequisites acceptance
	@$(BIN)/python -m acceptance

image: build
	@scripts/prerequisites image
	@scripts/image

acceptance-image: image
	@scripts/prerequisites acceptance-image
	@$(BIN)/python -m acceptance --image dist/pile-agent_$$($(BIN)/python -c "from agent.version import VERSION; print(VERSION)")_arm64.img

clean:
	rm -rf $(VENV) build *.egg-info cext/*.c cext/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
