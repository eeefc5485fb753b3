.PHONY: help check fast long format pins clean
.DEFAULT_GOAL := help

help:    ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

check:   ## everything that must be green before a change goes in: at most twelve minutes on two quiet cores of a usual machine
	python3 scripts/check.py full

fast:    ## the same without slow tests and coverage: a minute there
	python3 scripts/check.py fast

long:    ## check, and the tests that take minutes
	python3 scripts/check.py long

format:  ## put the code into its form and mend what ruff can mend
	$$(python3 scripts/bootstrap.py) -m ruff check --fix
	$$(python3 scripts/bootstrap.py) -m ruff format

PIN = CUSTOM_COMPILE_COMMAND="make pins" $$(python3 scripts/bootstrap.py) -m piptools compile --quiet --upgrade \
	--generate-hashes --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

pins:    ## the newest versions of everything, with hashes, into requirements/*.txt
	$(PIN) pyproject.toml -o requirements/run.txt
	$(PIN) pyproject.toml --extra postgres -c requirements/run.txt -o requirements/postgres.txt
	$(PIN) pyproject.toml requirements/dev.in --extra test --extra postgres -c requirements/run.txt -o requirements/dev.txt
	$(PIN) pyproject.toml requirements/core.in --extra test --extra postgres -c requirements/dev.txt -o requirements/core.txt
	$(PIN) pyproject.toml --only-build-deps --build-deps-for wheel -c requirements/dev.txt -o requirements/build.txt

clean:   ## forget the environment and all caches
	rm -rf .venv build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
