# Everything a newcomer types. Details: scripts/install.sh, scripts/test.sh.
.DEFAULT_GOAL := help
.PHONY: help install demo demo-cluster test e2e soak lint generate format clean

help:     ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install:  ## .venv with everything (Python 3.11 or 3.12)
	@scripts/install.sh

demo: install  ## build, serve with a real Triton, stream Japanese
	@exec .venv/bin/llmjp demo

demo-cluster: install  ## the same through the operator, on a Kubernetes that it starts, or on $$KUBECONFIG
	@exec .venv/bin/python -m e2e.demo

test: install  ## lint, types, contracts, then every test: a real Triton, a real Kubernetes (half an hour)
	@exec scripts/test.sh

e2e: install  ## only the scenarios of the operator, on a real node (root)
	@exec .venv/bin/python -m pytest -q e2e/scenarios

soak: install  ## the tests that repeat something, in full: kills, damaged files
	@exec scripts/soak.sh

lint: install  ## ruff, mypy, import contracts
	@exec scripts/lint.sh

generate: install  ## what is derived: docs/schemas, the CRD and its reference, the chart's README and schema, install.yaml
	@.venv/bin/python scripts/generate.py

format: install  ## ruff format and safe fixes
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix-only -q .

clean:    ## remove .venv and what the demo built
	rm -rf .venv .llmjp
