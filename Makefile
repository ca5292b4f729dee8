# The two commands of this project: `make run` and `make test`. Everything that they need is installed into .venv.

PYTHON ?= python3
# NVIDIA's driver on this machine decides between the two sets of pins.
PINS := $(if $(wildcard /dev/nvidiactl),cuda,cpu)
UV := .venv/bin/uv
READY := .venv/.ready-$(PINS)
MODELS := $(or $(HIVE_STATE_DIR),.hive)/models
KUBERNETES := tools/bin/kubernetes
QUESTION := gemma-3-270m: What is the capital of France?

.PHONY: run stop test e2e docs chart-docs lint format tools requirements bench storm agent-cost gpu-check clean

run: $(READY) ## Hive on this machine, with the models of values/local.yaml
	@.venv/bin/python tools/demo_models.py $(MODELS) gemma-3-270m tiny
	@.venv/bin/hive up -f values/local.yaml --ask "$(QUESTION)"

stop: $(READY) ## End it: no process and no lease stays
	@.venv/bin/hive down

test: $(READY) tools ## Every test but those of `make e2e`
	@.venv/bin/python tools/demo_models.py $(MODELS) tiny tiny-lora tiny-embedding tiny-vision tiny-whisper
	.venv/bin/python -m pytest -m "not cluster"

e2e: $(READY) tools $(KUBERNETES)/kubelet ## The chart on a real Kubernetes of this machine's own, with the KubeRay operator that is on PATH or a stand-in; root, Go
	@.venv/bin/python tools/demo_models.py $(MODELS) tiny
	.venv/bin/python -m pytest -m cluster tests/cluster

lint: $(READY) tools ## Style, types, chart, schema and rendered manifests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	@if [ -x tools/bin/helm ]; then tools/bin/helm lint --strict chart -f values/local.yaml; fi
	.venv/bin/python -m pytest -q tests/chart -k "lint or schema or manifests"

format: $(READY)
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

docs: $(READY) ## The docs as a site, into site/; a dead link ends it
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build

chart-docs: tools ## chart/README.md from chart/values.yaml
	tools/bin/helm-docs --chart-search-root chart --sort-values-order file --ignore-non-descriptions

tools: ## helm, helm-unittest, helm-docs and kubeconform from their Go modules, where there is Go
	@if command -v go >/dev/null; then \
	  cd tools && go build -trimpath -o bin/ -ldflags "$(GO_LDFLAGS)" tool; \
	else \
	  echo "Go is not here: tests that need helm-unittest or kubeconform will say so and be skipped"; \
	fi

KUBERNETES_VERSION := k8s.io/component-base/version

# Each file is as new as the build, so that it is made once; etcd calls its own program `server`.
$(KUBERNETES)/kubelet: tests/cluster/kubernetes/go.mod
	cd tests/cluster/kubernetes && go build -trimpath -o $(CURDIR)/$(KUBERNETES)/ -ldflags "-s -w \
	  -X $(KUBERNETES_VERSION).gitVersion=v1.34.4 -X $(KUBERNETES_VERSION).gitMajor=1 -X $(KUBERNETES_VERSION).gitMinor=34" tool
	mv $(KUBERNETES)/server $(KUBERNETES)/etcd

GO_LDFLAGS := -s -w -X helm.sh/helm/v4/internal/version.version=v4.2.4 -X main.version=v0.7.0 \
  -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34

$(READY): requirements/$(PINS).txt requirements/bootstrap.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "ERROR: $(PYTHON) is older than 3.11"; echo "FIX: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv \
	  || { echo "ERROR: $(PYTHON) can't make an environment"; echo "FIX: install its venv module (Debian: python3-venv)"; exit 1; }
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/bootstrap.txt
	@echo "Installing the $(PINS) environment (about 7 GB; minutes on a slow line)"
	@$(UV) pip install --python .venv/bin/python --no-deps --compile-bytecode -r requirements/$(PINS).txt
	@$(UV) pip install --python .venv/bin/python --no-deps --quiet -e .
	@touch $@

bench: $(READY) ## Hive beside bare vLLM and stock Ray Serve LLM, and the gateway alone; about fifteen minutes, 24 GiB of RAM
	@.venv/bin/python tools/demo_models.py $(MODELS) gemma-3-270m tiny
	.venv/bin/python -m benchmarks.serving_speed --models $(MODELS) $(BENCH)

storm: $(READY) ## Hundreds of engine starts against the agent, with kills; about twelve minutes, as root
	.venv/bin/python -m benchmarks.vram_storm

agent-cost: $(READY) ## CPU, memory and answer times of the agent with 64 and 256 leases; needs a C compiler
	.venv/bin/python -m benchmarks.agent_cost --profile

# Not in .venv: a GPU machine's own Python with PyTorch will do. It says which packages it lacks.
gpu-check: ## What Hive claims of a GPU, on a real one; under three minutes
	@$(PYTHON) -m benchmarks.gpu_check

requirements: ## New pins from pyproject.toml
	$(UV) pip compile pyproject.toml $(COMPILE) --extra cpu --override requirements/cpu-overrides.txt -o requirements/cpu.txt
	$(UV) pip compile pyproject.toml $(COMPILE) --extra cuda -o requirements/cuda.txt

COMPILE := --upgrade --quiet --no-annotate --no-header --python-version 3.11 --python-platform x86_64-manylinux_2_31 \
  --extra demo --extra dev --extra docs

clean: stop ## Also removes the environment and the models
	rm -rf .venv .hive site tools/bin
