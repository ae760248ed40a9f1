# Everything a contributor runs. The virtual environment is made on first use, and again when the dependencies change.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo demo-federation test soak soak-faults soak-histories soak-load load \
	bench bench-full bench-gate bench-peers bench-scale check-deploy lint format protobuf constraints clean

VENV ?= .venv
PYTHON ?= $(firstword $(foreach python,python3.11 python3 python3.12 python3.13,$(shell \
	$(python) -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(python))))
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
# Tests wait for processes and disks more than they work: two at a time, each file by one.
BESIDE := --numprocesses 2 --dist loadfile
INSTALL := $(PIP) install --constraint constraints.txt --editable

help:  ## what there is to run
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run  ## one shard on http://127.0.0.1:8080
	$(VENV)/bin/constellation serve

demo: $(VENV)/.run  ## a shard and a fleet of simulated TVs, two minutes
	$(VENV)/bin/constellation demo

demo-federation: $(VENV)/.run  ## four shards in two regions, rounds every 20 s, and 1,000 simulated TVs, two minutes
	$(VENV)/bin/constellation demo --shards 4 --devices 1000

test: $(VENV)/.dev  ## all tests, then the kernels again as plain Python
	$(VENV)/bin/python -m pytest $(BESIDE)
	NUMBA_DISABLE_JIT=1 $(VENV)/bin/python -m pytest $(BESIDE) tests/kernels

soak: soak-faults soak-load  ## both of the next; an hour and a quarter

soak-faults: $(VENV)/.dev  ## the fault, overload and fuzz tests in their long form; forty minutes
	CONSTELLATION_SOAK=1 $(VENV)/bin/python -m pytest tests/durability tests/fuzz tests/api/grpc/test_fuzz.py \
		tests/api/test_herd.py tests/api/test_overload.py

soak-load: $(VENV)/.dev  ## half an hour of syncs: flat memory, flat latency, no errors
	$(VENV)/bin/python -m bench soak

soak-histories: $(VENV)/.dev  ## a million histories of syncs; about an hour
	CONSTELLATION_SOAK=1 $(VENV)/bin/python -m pytest --numprocesses 2 tests/client/test_convergence.py

load: $(VENV)/.dev  ## locust's TVs against a shard that runs; its page is on http://127.0.0.1:8089
	$(INSTALL) '.[test,load]'
	$(VENV)/bin/locust -f bench/locustfile.py --host http://127.0.0.1:8080

bench: $(VENV)/.dev  ## what the README promises, measured at 100,000 patterns (seventeen minutes)
	$(VENV)/bin/python -m bench

bench-full: $(VENV)/.dev  ## the same at 1,000,000 patterns
	$(VENV)/bin/python -m bench --full

bench-gate: $(VENV)/.dev  ## limits, quality, work and speed that no change may lose; fails if one is lost
	$(VENV)/bin/python -m bench gate

bench-peers: $(VENV)/.dev  ## beside what others would build, each in an environment of its own
	$(VENV)/bin/python -m bench peers

bench-scale: $(VENV)/.dev  ## one shard with 4,000,000 devices and 10,000,000 patterns; an hour, 18 GiB, 60 GiB of disk
	$(VENV)/bin/python -m bench scale

check-deploy: $(VENV)/.dev  ## deploy/ with tools of its own: hadolint, Helm's library, the schema of compose files
	$(INSTALL) '.[test,deploy]'
	PATH="$(abspath $(VENV))/bin:$$PATH" $(VENV)/bin/python -m pytest tests/deploy

lint: $(VENV)/.dev  ## format, lint and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: $(VENV)/.dev  ## make the format and the imports right
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

protobuf: $(VENV)/.dev  ## make the Python of the gRPC contract again
	$(VENV)/bin/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. constellation/api/grpc/sync.proto

constraints:  ## pin what a clean install resolves to today
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip --quiet install --editable '.[test,deploy,load]'
	{ sed -n '/^#/p' constraints.txt; build/constraints/bin/python -m pip freeze --exclude-editable; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean:  ## remove the virtual environment and every cache
	rm -rf $(VENV) build .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer with venv is needed (make PYTHON=...)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of dependencies: `make run` needs no test tools.
$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) .
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) '.[test]'
	@touch $@ $(VENV)/.run
