# Everything a newcomer types. Details: scripts/install.sh, scripts/check.sh, scripts/test.sh.
.DEFAULT_GOAL := help
.PHONY: help install demo demo-cluster check test e2e soak mutants lint generate format clean

help:     ## this list
	@grep -hE '^[a-z0-9-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/; s/\$$\$$/$$/g' | expand -t 14

install:  ## .venv with everything (Python 3.11 or 3.12); does nothing when it is up to date
	@scripts/install.sh

demo: install  ## build the example model, serve it with a real Triton, stream Japanese
	@exec .venv/bin/llmjp demo

demo-cluster: install  ## the same through the operator, on a Kubernetes that it starts or $$KUBECONFIG's
	@exec .venv/bin/python -m e2e.demo

check: install  ## lint, types, contracts, and the tests that need no server or cluster
	@exec scripts/check.sh

test: install  ## everything: lint, a real Triton, a real Kubernetes (half an hour)
	@exec scripts/test.sh

e2e: install  ## only the operator's scenarios, on a real node (root)
	@exec .venv/bin/python -m pytest -q e2e/scenarios

soak: install  ## the tests that repeat something, in full: kills, damaged files
	@exec scripts/soak.sh

mutants: install  ## break the code on purpose: every mutant must fail a fast test
	@exec .venv/bin/python scripts/mutants.py

lint: install  ## ruff, mypy, import contracts, and actionlint where it is on PATH
	@exec scripts/lint.sh

generate: install  ## docs/schemas, the CRD and its reference, the chart's README and schema, install.yaml
	@.venv/bin/python scripts/generate.py

format: install  ## ruff format and safe fixes
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix-only -q .

clean:    ## remove .venv and what the demo built
	rm -rf .venv .llmjp
