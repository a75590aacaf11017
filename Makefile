# make run    serve the demonstration mailbox on 127.0.0.1:1110 and :1995
# make test   everything: sets itself up, runs the tests, writes docs/conformance.md
# make lint   ruff, mypy, hadolint
# make bench  the gateway beside Dovecot, in one table, as root; ten minutes
# make performance  the same, longer, with the figures on docs/performance.md; an hour

VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint format bench performance clean

run: $(VENV)/.ready
	POP3GW_DEMO=$${POP3GW_DEMO:-true} POP3GW_STATE_DIR=$${POP3GW_STATE_DIR:-./var} \
	    exec $(BIN)/twistd -n --pidfile= pop3gw --config etc/pop3gw.toml

test: $(VENV)/.test-ready
	scripts/debian-packages
	scripts/add-kerberos $(VENV)
	$(BIN)/python -m pytest -n auto --conformance=docs/conformance.md $(PYTEST)

lint: $(VENV)/.test-ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile etc/stack/*/Dockerfile

format: $(VENV)/.test-ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.test-ready
	$(BIN)/python -m bench $(BENCH)

performance: $(VENV)/.test-ready
	mkdir -p var/bench
	$(BIN)/python -m bench --long --wait 600 --json var/bench/performance.json $(BENCH)
	$(BIN)/python -m bench page var/bench/performance.json

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.ready: setup.cfg pyproject.toml scripts/make-venv
	scripts/make-venv $(VENV) .
	touch $@

$(VENV)/.test-ready: setup.cfg pyproject.toml scripts/make-venv
	scripts/make-venv $(VENV) '.[test,lint]'
	touch $(VENV)/.ready $@
