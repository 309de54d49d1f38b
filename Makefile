# The commands of the project. `make` alone lists them.
PIPELINE_HOME ?= .local
POSTS ?= 500
SEED ?= 100
# What a person gives reaches the commands as it is: make would expand a $ in it.
GIVEN := PIPELINE_HOME PORT_OFFSET POSTS SEED SOURCE SERVICE DAG CONF
$(foreach name,$(GIVEN),$(if $(filter-out undefined,$(origin $(name))),$(eval override $(name) := $$(value $(name)))$(eval export $(name))))
LOCAL := .venv/airflow/bin/python -m local
INSTALLED = @[ -x .venv/airflow/bin/python ] || { echo "make $@: nothing is installed yet. Run: make up" >&2; exit 1; }

.PHONY: help install demo test up down status logs reset dag answers quarantine env bench lint package

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

install: ## install what is missing: JDK and Maven (apt, as root), uv, two environments, jars
	@local/install.sh

demo: install ## from nothing to the eight answers: POSTS=500 SEED=100 SOURCE=../posts
	@$(LOCAL) demo --posts="$$POSTS" --seed="$$SEED"

test: ## every test, those on a real stack of their own included
	@local/test.sh

up: install ## start the stack and wait until each part answers
	@$(LOCAL) up

down: ## end exactly what up started
	@if [ -x .venv/airflow/bin/python ]; then $(LOCAL) down; else echo "Nothing is installed, so nothing runs."; fi

status: ## what runs, where, since when
	$(INSTALLED)
	@$(LOCAL) status

logs: ## the end of one part's log: SERVICE=kafka
	$(INSTALLED)
	@$(LOCAL) logs -- "$$SERVICE"

reset: ## down, then forget all data that the stack has made (not the installs)
	@if [ -x .venv/airflow/bin/python ]; then $(LOCAL) reset; else echo "Nothing is installed, so there is no data."; fi

dag: ## trigger one DAG run and wait: DAG=pinterest_daily_batch CONF='{}'
	$(INSTALLED)
	@$(LOCAL) dag --conf="$$CONF" -- "$$DAG"

answers: ## the last published answers, as JSON
	$(INSTALLED)
	@$(LOCAL) answers

quarantine: ## what cannot be read, and why
	$(INSTALLED)
	@$(LOCAL) quarantine

env: ## addresses and credentials, as KEY=VALUE lines
	$(INSTALLED)
	@$(LOCAL) env

bench: install ## figures, each against something measured in the same run
	@.venv/airflow/bin/python -m bench

lint: install ## ruff, mypy, import rules
	@local/lint.sh

package: install ## the MWAA artefacts in build/mwaa/
	@.venv/airflow/bin/python -m mwaa package
