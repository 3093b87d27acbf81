# `make` prints what there is to make. Everything sets up its own environment first.

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c \
  'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $(p))))
BIN = .venv/bin
SETTINGS = $(if $(DATA),--data "$(DATA)") $(if $(LEARNERS),--learners "$(LEARNERS)") \
  $(if $(SHOTS),--shots "$(SHOTS)") $(if $(WAYS),--ways "$(WAYS)") $(if $(BUDGET),--budget $(BUDGET)) \
  $(if $(TERMS),--terms $(TERMS)) $(if $(SEEDS),--seeds "$(SEEDS)") \
  $(if $(RESULTS),--results "$(RESULTS)") $(if $(DRY_RUN),--dry-run) $(if $(YES),--yes) \
  $(if $(UNTRAINED),--untrained) $(if $(DIFFERENCES),--differences $(if $(filter all,$(DIFFERENCES)),all,best)) $(if $(POWER),--power) \
  $(if $(FIGURES),--figures) $(if $(FROM),--from '$(FROM)') $(if $(JOBS),--jobs $(JOBS)) \
  $(foreach file,$(PLUGINS),--plugin "$(file)")

CAMPAIGN = $(if $(NAME),'$(NAME)') $(if $(DATA),--data "$(DATA)") $(if $(RESULTS),--results "$(RESULTS)") \
  $(if $(BUDGET),--budget $(BUDGET)) $(if $(JOBS),--jobs $(JOBS))

WORKERS = -n 2 --dist worksteal

KNOWN = PYTHON TORCH_INDEX DATA LEARNERS SHOTS WAYS BUDGET TERMS SEEDS RESULTS DRY_RUN YES \
  UNTRAINED DIFFERENCES POWER FIGURES FROM JOBS PLUGINS OPTIONS BENCHMARK PAIRS RUN NAME TO OUT TESTS WORKERS
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
$(if $(filter-out $(KNOWN) -% MAKE%,$(GIVEN)),$(error \
  no variable $(filter-out $(KNOWN) -% MAKE%,$(GIVEN)); there are $(KNOWN)))

.PHONY: help setup test test-all torchmeta lint check format campaign campaign-status new-learner readme outputs docs simulation faults study-cost bench bench-quick clean

help: ## this list
	@grep -hE '^[a-z%-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 22
	@echo
	@echo 'table-% takes DATA= LEARNERS= SHOTS= WAYS= BUDGET= TERMS= SEEDS= RESULTS= JOBS= DRY_RUN=1 YES=1 UNTRAINED=1 PLUGINS='
	@echo 'DIFFERENCES=1 (pairs with the best row, tested; =all for every pair) POWER=1 (episodes for half a point) FIGURES=1, as in'
	@echo '  make table-omniglot DATA=~/data LEARNERS="protonet maml[first_order=true]" SHOTS="1 5"'
	@echo '  make table-omniglot DATA=~/data OPTIONS=split=1200/423'
	@echo 'FROM=OTHER: weights that were trained on another benchmark, tested on this one, as in make table-glyphs FROM=omniglot'

setup: .venv/ready ## the environment in .venv: Python 3.11-3.13, PyTorch, Lightning, ...

.venv/ready: setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'Python 3.11, 3.12 or 3.13 is needed and was not found: install one, or name it: make PYTHON=/path/to/python' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") -c constraints.txt -e '.[dev]'
	@touch $@

test: setup ## the tests of the gate, 7 to 8 minutes on two cores; set ZOO_DATA=DIR to test on real images too
	$(BIN)/python -m pytest $(WORKERS) $(TESTS)

test-all: setup torchmeta ## these and all that repeat them on other sets, forms and learners, or for longer (20 minutes)
	$(BIN)/python -m pytest $(WORKERS) -m '' --hypothesis-profile=all $(TESTS)

torchmeta: .venv/torchmeta-ready ## torchmeta 1.8.0 in the environment, as `import zoo.torchmeta` and test-all need it

# torchmeta asks for torch below 1.10, so nothing that it asks for is installed but what it really
# needs. torchvision gets a folder of its own, see zoo/torchmeta.py; 0.28 goes with torch 2.13.
.venv/torchmeta-ready: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  torchmeta==1.8.0 ordered-set==4.1.0 flaky==3.8.1
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .venv/torchmeta \
	  $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") torchvision==0.28.0
	@touch $@

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test ## lint and test

format: setup ## put the code into ruff's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

table-%: setup ## the comparison on a benchmark: glyphs (no data needed), omniglot, miniimagenet, cifarfs, fc100 (fetched if not in DATA)
	@$(BIN)/python -m zoo table '$*$(if $(OPTIONS),[$(OPTIONS)])' $(SETTINGS)

ablation-%: setup ## a learner with parts left out on BENCHMARK=..., what each one adds: npbml, its paper's Tables 3 and 4
	@$(BIN)/python -m zoo ablation '$*' '$(BENCHMARK)$(if $(OPTIONS),[$(OPTIONS)])' $(SETTINGS)

study-cost: setup ## what learners with an inner loop cost, CPU seconds and memory, on one network and the same tasks
	$(BIN)/python -m tests.bench.costs

study-%: setup ## learners beside others, pair by pair, table and figure: trlearner-functions, -images, -homogeneity, npbml-rate, -preconditioners, -homogeneity
	@$(BIN)/python -m zoo study '$*' $(SETTINGS) $(if $(PAIRS),--pairs "$(PAIRS)")

paper-%: setup ## a paper's table, our numbers beside its own, with RUN=1 made first: maml, protonet, npbml-1 to -4, ... (reports/papers)
	@$(BIN)/python -m zoo paper '$*' $(SETTINGS) $(if $(RUN),--run)

sweep-%: setup ## accuracy over shots and ways on a benchmark, each learner trained once: table and figure
	@$(BIN)/python -m zoo sweep '$*$(if $(OPTIONS),[$(OPTIONS)])' $(SETTINGS)

levels-%: setup ## who reaches the number of their paper, and what the others lack, from the records: BUDGET=hour SHOTS="1 5"
	@$(BIN)/python -m zoo levels '$*$(if $(OPTIONS),[$(OPTIONS)])' $(if $(LEARNERS),--learners "$(LEARNERS)") \
	  $(if $(SHOTS),--shots "$(SHOTS)") $(if $(WAYS),--way $(WAYS)) $(if $(BUDGET),--budget $(BUDGET)) \
	  $(if $(TERMS),--terms $(TERMS)) $(if $(RESULTS),--results "$(RESULTS)")

campaign: setup ## a list of long runs in the background of other work, taken up where it was: NAME=published-levels, see reports/campaigns
	@$(BIN)/python -m zoo campaign $(CAMPAIGN)

campaign-status: setup ## what of that list is done and under way, and the hours left
	@$(BIN)/python -m zoo campaign $(CAMPAIGN) --status

new-learner: setup ## the skeleton of a learner, NAME=my_learner: baselines/my_learner.py, or TO=FILE
	@$(BIN)/python -m zoo new-learner '$(NAME)' $(if $(TO),--to "$(TO)")

readme: setup ## tables of docs and README: of learners from the register, of results from their files
	@$(BIN)/python -m zoo list --table --into docs/learners.md
	@$(BIN)/python -m zoo include README.md docs/results.md docs/comparisons.md docs/speed.md docs/torchmeta.md

outputs: setup ## what the docs show of commands and of the tutorial, where it is no longer what they print (a minute)
	@$(BIN)/python -m tests.pages.console
	@$(BIN)/python -m tests.pages.notebook

docs: .venv/docs-ready ## the pages of docs/ as a site: build/docs/index.html (a minute)
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

.venv/docs-ready: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

simulation: setup ## whether the intervals and tests of the tables keep what they promise, by simulation (6 minutes)
	@$(BIN)/python -m tests.simulation

faults: setup ## kills, stops, full disks, wrong clocks, damage and bad input: is anything lost or believed? taken up where it was (an hour at most)
	@$(BIN)/python -m tests.faults $(if $(OUT),--out "$(OUT)")

bench: setup ## our MAML step against other libraries', each installed below .bench, and all of bench-quick (hours)
	@$(BIN)/python -m tests.bench $(if $(TORCH_INDEX),--torch-index "$(TORCH_INDEX)") $(if $(OUT),--out "$(OUT)")

bench-quick: setup ## how fast episodes, updates and tests are here, and how much memory they take (3 minutes)
	@$(BIN)/python -m tests.bench --parts ours $(if $(OUT),--out "$(OUT)")

clean: ## remove the environment, caches and runs under way; results stay
	rm -rf .venv .bench runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
