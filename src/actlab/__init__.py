"""Turn language models and small networks into datasets that interpretability researchers can trust.

What the command line does, these functions do; they are imported when they are first used.
"""

import importlib

__version__ = "0.2.0"

_PUBLIC = {
    "actlab.activations.config": ("ExtractConfig",),
    "actlab.activations.job": ("extract_activations", "preview_texts"),
    "actlab.datasets": ("seal_dataset", "show_dataset", "verify_dataset"),
    "actlab.features.datasets.compute": ("normalize_features",),
    "actlab.features.datasets.config": ("DatasetConfig",),
    "actlab.features.datasets.job": ("generate_datasets",),
    "actlab.features.encode.config": ("EncodeConfig",),
    "actlab.features.encode.job": ("compute_features",),
    "actlab.features.probe.config": ("ProbeConfig",),
    "actlab.features.probe.job": ("train_probe",),
    "actlab.features.rank.config": ("RankConfig",),
    "actlab.features.rank.job": ("rank_features",),
    "actlab.features.split.config": ("SplitConfig",),
    "actlab.features.split.job": ("make_split",),
    "actlab.features.sweep.config": ("SweepConfig",),
    "actlab.features.sweep.job": ("sweep_datasets",),
    "actlab.features.train_sae.config": ("TrainSaeConfig",),
    "actlab.features.train_sae.job": ("train_sae",),
    "actlab.formats.activations": ("Activations", "load_activations", "open_activations"),
    "actlab.formats.classifier": ("ClassifierDataset", "load_dataset", "save_dataset"),
    "actlab.formats.ranking": ("read_ranking",),
    "actlab.formats.sentences.folder": ("load_all_sentences",),
    "actlab.formats.sentences.rows": ("get_final_token_data",),
    "actlab.formats.splits": ("read_splits",),
    "actlab.formats.weights": ("WeightsDataset",),
    "actlab.ground.errors": ("ActlabError",),
    "actlab.ground.job": ("cost",),
    "actlab.ground.layers": ("parse_layers_arg",),
    "actlab.hub.push": ("push_dataset",),
    "actlab.text.generate.config": ("GenerateTextConfig",),
    "actlab.text.generate.job": ("generate_text",),
    "actlab.text.refine.config": ("RefineConfig",),
    "actlab.text.refine.job": ("refine_text",),
    "actlab.text.tokenize.config": ("TokenizeConfig",),
    "actlab.text.tokenize.job": ("tokenize_text",),
    "actlab.text.train_gpt.config": ("TrainGptConfig",),
    "actlab.text.train_gpt.job": ("train_gpt",),
    "actlab.weights.config.data_gen": ("DataGenConfig",),
    "actlab.weights.job": ("run_data_gen",),
    "actlab.weights.reproduce": ("reproduce",),
    "actlab.weights.score.run": ("score_interpreter",),
    "actlab.weights.sequence_sets": ("create_benchmark_dataset", "create_sig_dataset"),
}
"""What each module gives to the public. `__init__.pyi`, which `make docs` writes, tells editors and type checkers."""

_HOMES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'actlab' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
