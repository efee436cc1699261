# Short names for ./test.sh, which also works without make.

#   make sim                2,000 fixed seeds of the group simulation and 20 fresh ones
#   make sim SEED=0x5f1c    one of them, with its story
#   make sim-long           30,000 seeds
#   make bench ROWS="lean-128 consume-*"

.PHONY: check test format interop drill compiled sim sim-long mutants mutation bench clean

check:
	@./test.sh check

test:
	@./test.sh

format interop drill compiled mutants mutation:
	@./test.sh $@

bench:
	@./test.sh bench run $(foreach row,$(ROWS),--rows '$(row)')

sim sim-long:
	@SEED='$(SEED)' ./test.sh $@

clean:
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
