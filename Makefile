PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
SOURCES := setup.py pyproject.toml evenconv_cuda/version.txt $(wildcard csrc/*.* csrc/*/*.*)
CPP := $(wildcard csrc/*.cpp csrc/*.h csrc/*/*.cpp csrc/*/*.h)

.PHONY: demo test bench lint format clean

demo: $(VENV)/built
	$(RUN) -m evenconv_cuda demo

test: $(VENV)/built
	$(RUN) -m pytest --cov=evenconv_cuda --cov-report=term --cov-fail-under=90

bench: $(VENV)/built
	$(RUN) -m benchmarks.ops

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/clang-format --dry-run --Werror $(CPP)

format: $(VENV)/installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(CPP)

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/built: $(VENV)/installed $(SOURCES)
	$(RUN) -m pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info evenconv_cuda/*.so
