# Everything is in run.py; `make test` is `python3 run.py test`.
PYTHON ?= python3

.PHONY: help demo dev test check fix bench chaos docs build constraints
help demo dev test check fix bench chaos docs build constraints:
	@$(PYTHON) run.py $@ $(ARGS)

.DEFAULT_GOAL := help
