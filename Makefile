SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
SOURCES := setup.py pyproject.toml evenconv_cuda/version.txt $(shell find csrc -type f)
CPP := $(shell find csrc tests -name '*.cpp' -o -name '*.h' -o -name '*.cu')

# A build: its output goes to build/log.txt, a line for each file that was compiled to the terminal; all of it if it
# fails.
COMPILED := s|^ *\(\[[0-9]*/[0-9]*\]\) .* -c [^ ]*/\([^ /]*\) -o .*|  \1 \2|p
define build
	@echo "$(1)"
	@mkdir -p build
	@$(2) 2>&1 | tee build/log.txt | sed -un '/evenconv_cuda: building/p; $(COMPILED)' || { cat build/log.txt; exit 1; }
endef

.PHONY: demo test test-all test-exhaustive sanitize resources cuda-build bench bench-report bench-guard gpu-check lint format clean

demo: $(VENV)/built
	$(RUN) -m evenconv_cuda demo

# In as many processes as there are cores, each with one thread; in CI the lines that run are counted too.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses auto --dist worksteal --durations 10
COVERAGE := $(if $(CI),--cov=evenconv_cuda --cov-report=term --cov-fail-under=90)
test: $(VENV)/emulator
	@echo "Testing; what takes minutes is left to make test-all"
	$(PYTEST) -m "not exhaustive" $(COVERAGE)

test-all: test test-exhaustive

test-exhaustive: $(VENV)/emulator
	@echo "Testing what make test leaves out"
	$(PYTEST) -m exhaustive

# The CUDA kernels on the CPU under AddressSanitizer and UndefinedBehaviorSanitizer, as a package beside the usual one.
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all
sanitize: $(VENV)/installed
	$(call build,Building with sanitizers,CFLAGS="-O1 -g1 $(SANITIZERS)" LDFLAGS="$(SANITIZERS)" EVENCONV_CUDA_ON_HOST=1 \
		$(RUN) setup.py build_py --build-lib build/sanitize \
		build_ext --build-lib build/sanitize --build-temp build/sanitize/objects)
	PYTHONPATH=build/sanitize:. PYTHONMALLOC=malloc \
		LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0 UBSAN_OPTIONS=print_stacktrace=1 \
		$(RUN) -P -m pytest -m sanitize --capture=sys

# Registers and spills of the CUDA kernels, as nvcc compiles them.
resources: $(VENV)/installed
	$(RUN) -m benchmarks.resources

# All that can be known without a GPU of the package that is built for one.
cuda-build: $(VENV)/installed
	$(call build,Building with CUDA kernels for compute capability 9.0,TORCH_CUDA_ARCH_LIST=9.0 \
		$(RUN) setup.py build_py --build-lib build/cuda build_ext --build-lib build/cuda --build-temp build/cuda/objects)
	PYTHONPATH=build/cuda $(RUN) -P -c "import evenconv_cuda; info = evenconv_cuda.build_info(); print(info); \
		assert info['cuda'] and info['cuda_architectures'] == ['9.0']"
	PYTHONPATH=build/cuda $(RUN) -P -m pytest tests/test_fake_cuda.py

bench: $(VENV)/built
	$(RUN) -m benchmarks.ops
	$(RUN) -m benchmarks.models
	$(RUN) -m benchmarks.report

# The README's tables and figures from what is committed under benchmarks/results.
bench-report: $(VENV)/built
	$(RUN) -m benchmarks.report

# Ratios to the unfused forms, against the committed ones.
bench-guard: $(VENV)/built
	$(RUN) -m benchmarks.guard

# In the environment that PYTHON names, which has PyTorch with CUDA: nothing is installed.
gpu-check: PYTHON := python3
gpu-check:
	$(PYTHON) -m benchmarks.gpu

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/clang-format --dry-run --Werror $(CPP)

format: $(VENV)/installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(CPP)

$(VENV)/installed: requirements.txt
	@echo "Installing PyTorch and what the project uses beside it into $(VENV) (about 7 GB)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --requirement requirements.txt \
		| sed -un 's/^Collecting \([^ ]*\).*/  \1/p; s/^Installing collected packages.*/  unpacking/p'
	@touch $@

# Editable, so that the package is found from any folder and a change of its Python needs no build.
$(VENV)/built: $(VENV)/installed $(SOURCES)
	$(call build,Building the package,$(RUN) -m pip install --verbose --no-build-isolation --no-deps --editable .)
	@touch $@

# Beside the package, what runs the CUDA kernels on the CPU.
$(VENV)/emulator: $(VENV)/built
	$(call build,Building the emulator of the CUDA kernels,EVENCONV_CUDA_ON_HOST=1 $(RUN) setup.py build_ext --inplace)
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info evenconv_cuda/*.so
