"""Turn language models and small networks into datasets that interpretability researchers can trust.

What the command line does, these functions do; they are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actlab.activations.config import ExtractConfig
    from actlab.activations.job import extract_activations, preview_texts
    from actlab.activations.show import show_activations
    from actlab.activations.verify.run import verify_activations
    from actlab.features.datasets.compute import normalize_features
    from actlab.features.datasets.config import DatasetConfig
    from actlab.features.datasets.job import generate_datasets
    from actlab.features.encode.config import EncodeConfig
    from actlab.features.encode.run import compute_features, plan_features
    from actlab.features.probe.config import ProbeConfig
    from actlab.features.probe.run import train_probe
    from actlab.features.rank.config import RankConfig
    from actlab.features.rank.job import rank_features
    from actlab.features.split.config import SplitConfig
    from actlab.features.split.job import make_split
    from actlab.features.sweep.config import SweepConfig
    from actlab.features.sweep.job import sweep_datasets
    from actlab.features.train_sae.config import TrainSaeConfig
    from actlab.features.train_sae.run import train_sae
    from actlab.formats.activations import Activations, load_activations, open_activations
    from actlab.formats.classifier import ClassifierDataset, load_dataset, save_dataset
    from actlab.formats.ranking import read_ranking
    from actlab.formats.sentences.final import get_final_token_data
    from actlab.formats.sentences.folder import load_all_sentences
    from actlab.formats.splits import read_splits
    from actlab.formats.weights import WeightsDataset
    from actlab.ground.errors import ActlabError
    from actlab.ground.job import cost
    from actlab.ground.layers import parse_layers_arg
    from actlab.hub.push import plan_push, push_dataset
    from actlab.text.generate.config import GenerateTextConfig
    from actlab.text.generate.run import generate_text, plan_text
    from actlab.text.refine.config import RefineConfig
    from actlab.text.refine.run import plan_refinement, refine_text
    from actlab.text.tokenize.config import TokenizeConfig
    from actlab.text.tokenize.run import plan_tokenizing, tokenize_text
    from actlab.text.train_gpt.config import TrainGptConfig
    from actlab.text.train_gpt.run import plan_gpt_training, train_gpt
    from actlab.weights.config.data_gen import DataGenConfig
    from actlab.weights.reproduce import reproduce
    from actlab.weights.run import plan_data_gen, run_data_gen
    from actlab.weights.score.run import score_interpreter
    from actlab.weights.sequence_sets import create_benchmark_dataset, create_sig_dataset

__version__ = "0.2.0"

_HOMES = {
    "Activations": "actlab.formats.activations",
    "ActlabError": "actlab.ground.errors",
    "ClassifierDataset": "actlab.formats.classifier",
    "DataGenConfig": "actlab.weights.config.data_gen",
    "DatasetConfig": "actlab.features.datasets.config",
    "EncodeConfig": "actlab.features.encode.config",
    "ExtractConfig": "actlab.activations.config",
    "GenerateTextConfig": "actlab.text.generate.config",
    "ProbeConfig": "actlab.features.probe.config",
    "RankConfig": "actlab.features.rank.config",
    "RefineConfig": "actlab.text.refine.config",
    "SplitConfig": "actlab.features.split.config",
    "SweepConfig": "actlab.features.sweep.config",
    "TokenizeConfig": "actlab.text.tokenize.config",
    "TrainGptConfig": "actlab.text.train_gpt.config",
    "TrainSaeConfig": "actlab.features.train_sae.config",
    "WeightsDataset": "actlab.formats.weights",
    "compute_features": "actlab.features.encode.run",
    "create_benchmark_dataset": "actlab.weights.sequence_sets",
    "create_sig_dataset": "actlab.weights.sequence_sets",
    "cost": "actlab.ground.job",
    "extract_activations": "actlab.activations.job",
    "generate_datasets": "actlab.features.datasets.job",
    "generate_text": "actlab.text.generate.run",
    "get_final_token_data": "actlab.formats.sentences.final",
    "load_activations": "actlab.formats.activations",
    "load_all_sentences": "actlab.formats.sentences.folder",
    "load_dataset": "actlab.formats.classifier",
    "make_split": "actlab.features.split.job",
    "normalize_features": "actlab.features.datasets.compute",
    "open_activations": "actlab.formats.activations",
    "parse_layers_arg": "actlab.ground.layers",
    "plan_data_gen": "actlab.weights.run",
    "plan_features": "actlab.features.encode.run",
    "plan_gpt_training": "actlab.text.train_gpt.run",
    "plan_push": "actlab.hub.push",
    "plan_refinement": "actlab.text.refine.run",
    "plan_text": "actlab.text.generate.run",
    "plan_tokenizing": "actlab.text.tokenize.run",
    "preview_texts": "actlab.activations.job",
    "push_dataset": "actlab.hub.push",
    "rank_features": "actlab.features.rank.job",
    "read_ranking": "actlab.formats.ranking",
    "read_splits": "actlab.formats.splits",
    "refine_text": "actlab.text.refine.run",
    "reproduce": "actlab.weights.reproduce",
    "run_data_gen": "actlab.weights.run",
    "save_dataset": "actlab.formats.classifier",
    "score_interpreter": "actlab.weights.score.run",
    "show_activations": "actlab.activations.show",
    "sweep_datasets": "actlab.features.sweep.job",
    "tokenize_text": "actlab.text.tokenize.run",
    "train_gpt": "actlab.text.train_gpt.run",
    "train_probe": "actlab.features.probe.run",
    "train_sae": "actlab.features.train_sae.run",
    "verify_activations": "actlab.activations.verify.run",
}

__all__ = [
    "Activations",
    "ActlabError",
    "ClassifierDataset",
    "DataGenConfig",
    "DatasetConfig",
    "EncodeConfig",
    "ExtractConfig",
    "GenerateTextConfig",
    "ProbeConfig",
    "RankConfig",
    "RefineConfig",
    "SplitConfig",
    "SweepConfig",
    "TokenizeConfig",
    "TrainGptConfig",
    "TrainSaeConfig",
    "WeightsDataset",
    "compute_features",
    "cost",
    "create_benchmark_dataset",
    "create_sig_dataset",
    "extract_activations",
    "generate_datasets",
    "generate_text",
    "get_final_token_data",
    "load_activations",
    "load_all_sentences",
    "load_dataset",
    "make_split",
    "normalize_features",
    "open_activations",
    "parse_layers_arg",
    "plan_data_gen",
    "plan_features",
    "plan_gpt_training",
    "plan_push",
    "plan_refinement",
    "plan_text",
    "plan_tokenizing",
    "preview_texts",
    "push_dataset",
    "rank_features",
    "read_ranking",
    "read_splits",
    "refine_text",
    "reproduce",
    "run_data_gen",
    "save_dataset",
    "score_interpreter",
    "show_activations",
    "sweep_datasets",
    "tokenize_text",
    "train_gpt",
    "train_probe",
    "train_sae",
    "verify_activations",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'actlab' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
