# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test test-all check bench docs clean

demo: $(STAMP)
	$(BIN)/actlab extract-activations
	$(BIN)/actlab show Datasets/Activations/actlab_tiny/SP_sample
	$(BIN)/actlab verify Datasets/Activations/actlab_tiny/SP_sample --recompute 4
	$(BIN)/actlab train-sae --input Datasets/SPDatasets/SP_sample.jsonl --layers 1,3,5 --n-steps 300 --output Features/saes
	$(BIN)/actlab compute-features --input Datasets/Sentences/caring.csv --sae Features/saes --output Features/caring
	$(BIN)/actlab split --input Datasets/Sentences/caring.csv --output Features/splits.json
	$(BIN)/actlab rank-features --input Features/caring --split Features/splits.json --rows mean --min-pearson 0.2 --min-tpr 0.2 --output Features/ranking
	$(BIN)/actlab generate-datasets --strategy hidden-to-concept --input Features/caring --layer 3 --rows mean \
		--split Features/splits.json --output Features/caring_h3_to_concept.npz
	$(BIN)/actlab train-probe --input Features/caring_h3_to_concept.npz --output Features/probe
	$(BIN)/actlab train-probe --positive Datasets/Activations/actlab_tiny/SP_sample/EM \
		--negative Datasets/Activations/actlab_tiny/SP_sample/Neutral --output Probes/actlab_tiny
	$(BIN)/actlab create-sig-dataset --config-path configs/run_data_gen_quick.yaml --filename Weights/sig.json --size 200
	$(BIN)/actlab run-data-gen --config-path configs/run_data_gen_quick.yaml --set signature.dataset_path=Weights/sig.json
	$(BIN)/actlab show Weights/quick
	$(BIN)/actlab reproduce Weights/quick --example-id 7

test: check
	$(BIN)/pytest -n 2 -m "not slow"

test-all: check
	$(BIN)/pytest -n 2

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python scripts/bench/extraction.py
	$(BIN)/python scripts/bench/features.py
	$(BIN)/python scripts/bench/ranking.py
	$(BIN)/python scripts/bench/subject_training.py

docs: $(STAMP)
	$(BIN)/python scripts/commands_page.py docs/commands.md

clean:
	rm -rf $(VENV)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("actlab needs Python 3.11 or newer; run: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
