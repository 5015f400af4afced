PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
CUDA_VENV := .venv-cuda
CUDA_RUN := $(CUDA_VENV)/bin/python
SOURCES := setup.py evenconv_cuda/version.txt $(shell find csrc -type f)
CPP := $(shell find csrc tests -name '*.cpp' -o -name '*.h' -o -name '*.cu')

# A command's output only if it fails.
quietly = mkdir -p build && { $(1); } > build/log.txt 2>&1 || { cat build/log.txt; exit 1; }

.PHONY: demo test sanitize resources cuda-build bench bench-report bench-guard gpu-check lint format clean

demo: $(VENV)/built
	$(RUN) -m evenconv_cuda demo

test: $(VENV)/built
	$(RUN) -m pytest --cov=evenconv_cuda --cov-report=term --cov-fail-under=90

# The CUDA kernels on the CPU under AddressSanitizer and UndefinedBehaviorSanitizer, as a package beside the usual one.
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all
sanitize: $(VENV)/installed
	$(call quietly,CFLAGS="-O1 -g1 $(SANITIZERS)" LDFLAGS="$(SANITIZERS)" EVENCONV_CUDA_ON_HOST=1 \
		$(RUN) setup.py build --build-base build/sanitize --build-lib build/sanitize/lib)
	PYTHONPATH=build/sanitize/lib:. PYTHONMALLOC=malloc \
		LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0 UBSAN_OPTIONS=print_stacktrace=1 \
		$(RUN) -P -m pytest -m sanitize --capture=sys

# Registers and spills of the CUDA kernels, as nvcc compiles them.
resources: $(VENV)/installed
	$(RUN) -m benchmarks.resources

# All that can be known without a GPU of the package that is built for one.
cuda-build: $(CUDA_VENV)/installed
	$(call quietly,TORCH_CUDA_ARCH_LIST="8.0;9.0" \
		$(CUDA_RUN) setup.py build --build-base build/cuda --build-lib build/cuda/lib)
	PYTHONPATH=build/cuda/lib $(CUDA_RUN) -P -c "import evenconv_cuda; info = evenconv_cuda.build_info(); print(info); \
		assert info['cuda'] and info['cuda_architectures'] == ['8.0', '9.0']"
	PYTHONPATH=build/cuda/lib $(CUDA_RUN) -P -m pytest tests/test_fake_cuda.py

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
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --requirement requirements.txt
	touch $@

$(CUDA_VENV)/installed: requirements-cuda.txt
	$(PYTHON) -m venv $(CUDA_VENV)
	$(CUDA_RUN) -m pip install --quiet --requirement requirements-cuda.txt
	touch $@

# In place and through build/, where ninja finds what need not be compiled again; the tests want the CUDA kernels on the
# CPU.
$(VENV)/built: $(VENV)/installed $(SOURCES)
	$(call quietly,EVENCONV_CUDA_ON_HOST=1 $(RUN) setup.py build_ext --inplace)
	touch $@

clean:
	rm -rf $(VENV) $(CUDA_VENV) build *.egg-info evenconv_cuda/*.so
