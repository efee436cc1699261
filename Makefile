# Short names for ./test.sh, which also works without make.

.PHONY: check test format interop drill mutants mutation clean

check:
	@./test.sh check

test:
	@./test.sh

format interop drill mutants mutation:
	@./test.sh $@

clean:
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
