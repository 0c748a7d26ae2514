# make help lists the targets.
# The distribution's first: the packages run on it, and it is built with optimisations that others often lack.
PYTHON ?= $(or $(shell for each in /usr/bin/python3 python3; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done),python3)
ENGINES ?= docker-20.10
SERVE_FLAGS ?=
PYTEST_FLAGS ?=
BENCH_FLAGS ?=
SOAK_FLAGS ?=
TEST_PROCESSES ?= 2
export TEST_PROCESSES
SOURCES = cri_dockerd_py proto packaging tests

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: venv
venv: .venv/.runtime ## make .venv with .venv/bin/cri-dockerd-py

.venv/.runtime: requirements.lock pyproject.toml packaging/make-venv packaging/new-venv
	PYTHON=$(PYTHON) packaging/make-venv requirements.lock
	@touch $@

.PHONY: venv-dev
venv-dev: .venv/.dev ## the same, with the tools for lint and test

.venv/.dev: requirements-dev.lock pyproject.toml packaging/make-venv packaging/new-venv
	PYTHON=$(PYTHON) packaging/make-venv requirements-dev.lock
	@touch .venv/.runtime $@

.PHONY: serve
serve: venv ## install and start what is missing, and serve CRI (SERVE_FLAGS="--log-level=debug …")
	exec .venv/bin/python packaging/bootstrap.py serve -- $(SERVE_FLAGS)

.PHONY: demo
demo: venv ## run a pod through the socket of `make serve`, step by step
	.venv/bin/cri-dockerd-py demo

.PHONY: demo-migrate
demo-migrate: venv-dev ## move ten pods from a private Docker to a private containerd and back, under traffic
	.venv/bin/python packaging/bootstrap.py install-test-engines
	.venv/bin/python -m tests.demo_migrate

.PHONY: test
test: venv-dev ## the whole suite: on Docker 20.10, then the engine tests on containerd 2.1 and Docker 28
	.venv/bin/python packaging/bootstrap.py install-test-engines
	rm -rf build/tests .coverage .coverage.*
	status=0; \
	packaging/run-tests docker-20.10 --cov --cov-report= --engine docker-20.10 $(PYTEST_FLAGS) || status=1; \
	packaging/run-engine-tests containerd-2.1 $(PYTEST_FLAGS) || status=1; \
	packaging/run-engine-tests docker-28 $(PYTEST_FLAGS) || status=1; \
	.venv/bin/coverage report --skip-covered --skip-empty --sort=cover; \
	.venv/bin/python -m tests.behaviour.report build/tests/*.xml; \
	exit $$status

.PHONY: test-matrix
test-matrix: venv-dev ## the engine tests on the other versions of Docker and containerd
	.venv/bin/python packaging/bootstrap.py install-test-engines
	rm -rf build/tests .coverage .coverage.*
	status=0; \
	for engine in containerd-1.6 containerd-1.7 docker-26 docker-26-store docker-28-store; do \
	    packaging/run-engine-tests $$engine $(PYTEST_FLAGS) || status=1; \
	done; \
	.venv/bin/python -m tests.behaviour.report build/tests/*.xml; \
	exit $$status

.PHONY: test-node
test-node: venv-dev ## install the Debian package on a booted node and go through its life (its disk and its state after the boot are kept in CRI_TEST_CACHE)
	.venv/bin/python packaging/bootstrap.py install-node-tools
	CRI_TEST_NODE=1 .venv/bin/pytest -q --junitxml=build/tests-node.xml tests/node

.PHONY: test-one
test-one: venv-dev ## chosen tests: make test-one ENGINES=containerd-2.1 PYTEST_FLAGS="-k exec"
	.venv/bin/pytest --engine $(ENGINES) $(PYTEST_FLAGS)

.PHONY: bench
bench: venv-dev ## ratios to containerd's own CRI plugin in the same minutes (ENGINES=containerd-2.1, BENCH_FLAGS="--only log")
	.venv/bin/python -m tests.bench --engine $(ENGINES) $(BENCH_FLAGS)

.PHONY: bench-moves
bench-moves: venv-dev ## a move against its stop and start alone, an image's copy against the engines' tools (BENCH_FLAGS)
	.venv/bin/python -m tests.bench.moves $(BENCH_FLAGS)

.PHONY: soak
soak: venv-dev ## churn pods on both engines under faults for 15 minutes, and look for leaks (SOAK_FLAGS="--minutes 5 --seed 7")
	.venv/bin/python packaging/bootstrap.py install-test-engines
	.venv/bin/python -m tests.soak $(SOAK_FLAGS)

.PHONY: lint
lint: venv-dev ## ruff, mypy --strict, the import contracts
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/mypy
	.venv/bin/lint-imports

.PHONY: format
format: venv-dev ## let ruff format and fix
	.venv/bin/ruff check --fix $(SOURCES)
	.venv/bin/ruff format $(SOURCES)

.PHONY: audit
audit: venv-dev ## look the packages of the lock file up for known vulnerabilities
	.venv/bin/python packaging/audit requirements-otel.lock

.PHONY: proto
proto: venv-dev ## regenerate cri_dockerd_py/_generated from proto/
	.venv/bin/python proto/generate.py

.PHONY: reference
reference: venv ## rewrite what is made from the settings: their reference, and the packaged config file
	mkdir -p build
	.venv/bin/python packaging/manual --reference >build/reference.tmp && mv build/reference.tmp cri_dockerd_py/settings/README.md
	.venv/bin/cri-dockerd-py config show --defaults >build/reference.tmp && mv build/reference.tmp packaging/config.toml

.PHONY: deb
deb: ## build the Debian package into build/deb
	packaging/deb/build

.PHONY: wheel
wheel: venv ## build the wheel into build/wheel
	packaging/wheel .venv/bin/python build/wheel

.PHONY: pause
pause: ## rebuild the pause binaries (needs gcc and gcc-aarch64-linux-gnu)
	$(MAKE) -C packaging/pause

.PHONY: lock
lock: export CUSTOM_COMPILE_COMMAND = make lock
lock: COMPILE = .venv/bin/pip-compile -q --upgrade --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --allow-unsafe \
	    --strip-extras --build-deps-for editable
lock: venv-dev ## resolve the newest versions of all packages into the lock files
	$(COMPILE) -o requirements.lock pyproject.toml
	$(COMPILE) -o requirements-otel.lock --extra otel -c requirements.lock pyproject.toml
	$(COMPILE) -o requirements-dev.lock --extra dev --extra otel -c requirements-otel.lock pyproject.toml
