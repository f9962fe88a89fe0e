"""Turn language models and small networks into datasets that interpretability researchers can trust."""

# Made from the code by `make docs`; a test keeps it current.

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, overload

from actlab.activations import job as _activations_job
from actlab.activations.config import ExtractConfig as ExtractConfig
from actlab.datasets import seal_dataset as seal_dataset
from actlab.datasets import show_dataset as show_dataset
from actlab.datasets import verify_dataset as verify_dataset
from actlab.features.datasets import job as _features_datasets_job
from actlab.features.datasets.compute import normalize_features as normalize_features
from actlab.features.datasets.config import DatasetConfig as DatasetConfig
from actlab.features.encode import job as _features_encode_job
from actlab.features.encode.config import EncodeConfig as EncodeConfig
from actlab.features.probe import job as _features_probe_job
from actlab.features.probe.config import ProbeConfig as ProbeConfig
from actlab.features.rank import job as _features_rank_job
from actlab.features.rank.config import RankConfig as RankConfig
from actlab.features.split import job as _features_split_job
from actlab.features.split.config import SplitConfig as SplitConfig
from actlab.features.sweep.config import SweepConfig as SweepConfig
from actlab.features.train_sae import job as _features_train_sae_job
from actlab.features.train_sae.config import TrainSaeConfig as TrainSaeConfig
from actlab.formats.activations import Activations as Activations
from actlab.formats.activations import load_activations as load_activations
from actlab.formats.activations import open_activations as open_activations
from actlab.formats.classifier import ClassifierDataset as ClassifierDataset
from actlab.formats.classifier import load_dataset as load_dataset
from actlab.formats.classifier import save_dataset as save_dataset
from actlab.formats.ranking import read_ranking as read_ranking
from actlab.formats.sentences.folder import load_all_sentences as load_all_sentences
from actlab.formats.sentences.rows import get_final_token_data as get_final_token_data
from actlab.formats.splits import read_splits as read_splits
from actlab.formats.weights.dataset import WeightsDataset as WeightsDataset
from actlab.ground.errors import ActlabError as ActlabError
from actlab.ground.job import cost as cost
from actlab.ground.layers import parse_layers_arg as parse_layers_arg
from actlab.hub.push import push_dataset as push_dataset
from actlab.text.generate import job as _text_generate_job
from actlab.text.generate.config import GenerateTextConfig as GenerateTextConfig
from actlab.text.refine import job as _text_refine_job
from actlab.text.refine.config import RefineConfig as RefineConfig
from actlab.text.tokenize import job as _text_tokenize_job
from actlab.text.tokenize.config import TokenizeConfig as TokenizeConfig
from actlab.text.train_gpt import job as _text_train_gpt_job
from actlab.text.train_gpt.config import TrainGptConfig as TrainGptConfig
from actlab.weights import job as _weights_job
from actlab.weights import reproduce as _weights_reproduce
from actlab.weights import sequence_sets as _weights_sequence_sets
from actlab.weights.config import examples as _weights_config_examples
from actlab.weights.config import networks as _weights_config_networks
from actlab.weights.config import output as _weights_config_output
from actlab.weights.config import sequence_sets as _weights_config_sequence_sets
from actlab.weights.config.data_gen import DataGenConfig as DataGenConfig
from actlab.weights.score import report as _weights_score_report

_File = str | PathLike[str]
_Text = str | int | PathLike[str] | Sequence[str | int]
_Texts = str | int | PathLike[str] | Sequence[str | int | PathLike[str]]

__version__: str
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
    "seal_dataset",
    "show_dataset",
    "sweep_datasets",
    "tokenize_text",
    "train_gpt",
    "train_probe",
    "train_sae",
    "verify_dataset",
]

@overload
def compute_features(
    *,
    sae: _Texts,
    output: _File,
    config_path: _File | None = None,
    input: _File | None = None,
    model: _Text = 'actlab/tiny',
    from_hidden: _File | None = None,
    layers: _Text = 'all',
    average_l0: int | None = None,
    storage: Literal['dense', 'sparse'] = 'dense',
    final_only: bool = False,
    dtype: Literal['float32', 'float16'] = 'float32',
    text_column: _Text = 'sentence',
    label_column: _Text = 'concept_strength_label',
    labels: _Text | None = None,
    limit: int | None = None,
    max_length: int = 2048,
    model_dtype: Literal['auto', 'float32', 'float16', 'bfloat16'] = 'auto',
    load_in_4bit: bool = False,
    trust_remote_code: bool = False,
    batch_size: int = 32,
    batch_tokens: int = 4096,
    input_scale: float | None = None,
    l0_check: Literal['stop', 'warn', 'off'] = 'stop',
    revision: _Text | None = None,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'auto',
    check: bool = False,
    on_bad: Literal['drop', 'error'] = 'drop',
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    part: _Text | None = None,
) -> _features_encode_job.Computed:
    """Encode sentences with SAEs; `EncodeConfig` has the settings."""

@overload
def compute_features(
    *,
    config_path: _File,
    input: _File | None = None,
    sae: _Texts = ...,
    output: _File = ...,
    model: _Text = 'actlab/tiny',
    from_hidden: _File | None = None,
    layers: _Text = 'all',
    average_l0: int | None = None,
    storage: Literal['dense', 'sparse'] = 'dense',
    final_only: bool = False,
    dtype: Literal['float32', 'float16'] = 'float32',
    text_column: _Text = 'sentence',
    label_column: _Text = 'concept_strength_label',
    labels: _Text | None = None,
    limit: int | None = None,
    max_length: int = 2048,
    model_dtype: Literal['auto', 'float32', 'float16', 'bfloat16'] = 'auto',
    load_in_4bit: bool = False,
    trust_remote_code: bool = False,
    batch_size: int = 32,
    batch_tokens: int = 4096,
    input_scale: float | None = None,
    l0_check: Literal['stop', 'warn', 'off'] = 'stop',
    revision: _Text | None = None,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'auto',
    check: bool = False,
    on_bad: Literal['drop', 'error'] = 'drop',
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    part: _Text | None = None,
) -> _features_encode_job.Computed:
    """Encode sentences with SAEs; `EncodeConfig` has the settings."""

@overload
def compute_features(
    config: EncodeConfig,
    /,
) -> _features_encode_job.Computed:
    """Encode sentences with SAEs; `EncodeConfig` has the settings."""


@overload
def create_benchmark_dataset(
    *,
    filename: _File,
    config_path: _File | None = None,
    signature: _weights_config_output.SignatureSettings | Mapping[str, object] = ...,
    model: _weights_config_networks.ModelSettings | Mapping[str, object] = ...,
    dataset: _weights_config_networks.DatasetSettings | Mapping[str, object] = ...,
    training: _weights_config_networks.TrainingSettings | Mapping[str, object] = ...,
    staged_training: _weights_config_networks.StagedTraining | Mapping[str, object] = ...,
    validation: _weights_config_networks.ValidationSettings | Mapping[str, object] = ...,
    pipeline: _weights_config_networks.PipelineSettings | Mapping[str, object] = ...,
    metrics: _weights_config_output.MetricsSettings | Mapping[str, object] = ...,
    task_generation: _weights_config_output.TaskSettings | Mapping[str, object] = ...,
    hub: _weights_config_output.HubSettings | Mapping[str, object] = ...,
    samples_per_pattern: int = 35,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    quantization_scale: Literal['per-tensor', 'per-channel'] = 'per-tensor',
    strict: bool = False,
    output: _File = ...,
    seed: int = 42,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'cpu',
    workers: int = 1,
    tokenizer: _Text | None = None,
    max_prompt_tokens: int | None = None,
) -> _weights_sequence_sets.MadeSequences:
    """Write a benchmark dataset for a config's patterns; `BenchmarkConfig` has the settings."""

@overload
def create_benchmark_dataset(
    *,
    config_path: _File,
    signature: _weights_config_output.SignatureSettings | Mapping[str, object] = ...,
    model: _weights_config_networks.ModelSettings | Mapping[str, object] = ...,
    dataset: _weights_config_networks.DatasetSettings | Mapping[str, object] = ...,
    training: _weights_config_networks.TrainingSettings | Mapping[str, object] = ...,
    staged_training: _weights_config_networks.StagedTraining | Mapping[str, object] = ...,
    validation: _weights_config_networks.ValidationSettings | Mapping[str, object] = ...,
    pipeline: _weights_config_networks.PipelineSettings | Mapping[str, object] = ...,
    metrics: _weights_config_output.MetricsSettings | Mapping[str, object] = ...,
    task_generation: _weights_config_output.TaskSettings | Mapping[str, object] = ...,
    hub: _weights_config_output.HubSettings | Mapping[str, object] = ...,
    filename: _File = ...,
    samples_per_pattern: int = 35,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    quantization_scale: Literal['per-tensor', 'per-channel'] = 'per-tensor',
    strict: bool = False,
    output: _File = ...,
    seed: int = 42,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'cpu',
    workers: int = 1,
    tokenizer: _Text | None = None,
    max_prompt_tokens: int | None = None,
) -> _weights_sequence_sets.MadeSequences:
    """Write a benchmark dataset for a config's patterns; `BenchmarkConfig` has the settings."""

@overload
def create_benchmark_dataset(
    config: _weights_config_sequence_sets.BenchmarkConfig,
    /,
) -> _weights_sequence_sets.MadeSequences:
    """Write a benchmark dataset for a config's patterns; `BenchmarkConfig` has the settings."""


@overload
def create_sig_dataset(
    *,
    filename: _File,
    config_path: _File | None = None,
    signature: _weights_config_output.SignatureSettings | Mapping[str, object] = ...,
    model: _weights_config_networks.ModelSettings | Mapping[str, object] = ...,
    dataset: _weights_config_networks.DatasetSettings | Mapping[str, object] = ...,
    training: _weights_config_networks.TrainingSettings | Mapping[str, object] = ...,
    staged_training: _weights_config_networks.StagedTraining | Mapping[str, object] = ...,
    validation: _weights_config_networks.ValidationSettings | Mapping[str, object] = ...,
    pipeline: _weights_config_networks.PipelineSettings | Mapping[str, object] = ...,
    metrics: _weights_config_output.MetricsSettings | Mapping[str, object] = ...,
    task_generation: _weights_config_output.TaskSettings | Mapping[str, object] = ...,
    hub: _weights_config_output.HubSettings | Mapping[str, object] = ...,
    size: int = 200,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    quantization_scale: Literal['per-tensor', 'per-channel'] = 'per-tensor',
    strict: bool = False,
    output: _File = ...,
    seed: int = 42,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'cpu',
    workers: int = 1,
    tokenizer: _Text | None = None,
    max_prompt_tokens: int | None = None,
) -> _weights_sequence_sets.MadeSequences:
    """Write a signature dataset for a config's patterns; `SigDatasetConfig` has the settings."""

@overload
def create_sig_dataset(
    *,
    config_path: _File,
    signature: _weights_config_output.SignatureSettings | Mapping[str, object] = ...,
    model: _weights_config_networks.ModelSettings | Mapping[str, object] = ...,
    dataset: _weights_config_networks.DatasetSettings | Mapping[str, object] = ...,
    training: _weights_config_networks.TrainingSettings | Mapping[str, object] = ...,
    staged_training: _weights_config_networks.StagedTraining | Mapping[str, object] = ...,
    validation: _weights_config_networks.ValidationSettings | Mapping[str, object] = ...,
    pipeline: _weights_config_networks.PipelineSettings | Mapping[str, object] = ...,
    metrics: _weights_config_output.MetricsSettings | Mapping[str, object] = ...,
    task_generation: _weights_config_output.TaskSettings | Mapping[str, object] = ...,
    hub: _weights_config_output.HubSettings | Mapping[str, object] = ...,
    filename: _File = ...,
    size: int = 200,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    quantization_scale: Literal['per-tensor', 'per-channel'] = 'per-tensor',
    strict: bool = False,
    output: _File = ...,
    seed: int = 42,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'cpu',
    workers: int = 1,
    tokenizer: _Text | None = None,
    max_prompt_tokens: int | None = None,
) -> _weights_sequence_sets.MadeSequences:
    """Write a signature dataset for a config's patterns; `SigDatasetConfig` has the settings."""

@overload
def create_sig_dataset(
    config: _weights_config_sequence_sets.SigDatasetConfig,
    /,
) -> _weights_sequence_sets.MadeSequences:
    """Write a signature dataset for a config's patterns; `SigDatasetConfig` has the settings."""


@overload
def extract_activations(
    *,
    config_path: _File | None = None,
    model: _Texts = ('actlab/tiny',),
    dataset: _File | Sequence[_File] = ...,
    output: _File = ...,
    splits: _Text = 'EM,Neutral',
    layers: _Text = 'all',
    position: str = 'last',
    max_length: int = 2048,
    truncate: Literal['prompt', 'left', 'right', 'error'] = 'prompt',
    chat_template: bool = False,
    template_date: _Text | None = None,
    shard_size: int = 512,
    dtype: Literal['float16', 'float32', 'bfloat16', 'model'] = 'float16',
    model_dtype: Literal['auto', 'float32', 'float16', 'bfloat16'] = 'auto',
    load_in_4bit: bool = False,
    trust_remote_code: bool = False,
    batch_size: int = 32,
    batch_tokens: int = 4096,
    limit: int | None = None,
    revision: _Text | None = None,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'auto',
    on_bad: Literal['drop', 'error'] = 'drop',
    preview: int | None = None,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    part: _Text | None = None,
) -> list[_activations_job.Extracted]:
    """Save the residual stream of every model on every dataset; `ExtractConfig` has the settings."""

@overload
def extract_activations(
    config: ExtractConfig,
    /,
) -> list[_activations_job.Extracted]:
    """Save the residual stream of every model on every dataset; `ExtractConfig` has the settings."""


@overload
def generate_datasets(
    *,
    strategy: str,
    input: _File,
    output: _File,
    config_path: _File | None = None,
    normalize: str = 'standardize',
    target_layer: int | None = None,
    target_feature: int | None = None,
    target_features: _Text | None = None,
    input_layer: int | None = None,
    layer: int | None = None,
    layers: _Text | None = None,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    rows: Literal['final', 'all', 'mean'] = 'final',
    average_l0: int | None = None,
    features_from: _File | None = None,
    top: int = 1,
    split: _File | None = None,
    fit_norm: Literal['train', 'all'] | None = None,
    groups: bool = False,
    format: Literal['npz', 'parquet'] | None = None,
    check: bool = False,
    on_bad: Literal['drop', 'error'] = 'drop',
) -> list[_features_datasets_job.Generated]:
    """Make one dataset, or one a ranked feature; `DatasetConfig` has the settings."""

@overload
def generate_datasets(
    *,
    config_path: _File,
    strategy: str = ...,
    input: _File = ...,
    output: _File = ...,
    normalize: str = 'standardize',
    target_layer: int | None = None,
    target_feature: int | None = None,
    target_features: _Text | None = None,
    input_layer: int | None = None,
    layer: int | None = None,
    layers: _Text | None = None,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    rows: Literal['final', 'all', 'mean'] = 'final',
    average_l0: int | None = None,
    features_from: _File | None = None,
    top: int = 1,
    split: _File | None = None,
    fit_norm: Literal['train', 'all'] | None = None,
    groups: bool = False,
    format: Literal['npz', 'parquet'] | None = None,
    check: bool = False,
    on_bad: Literal['drop', 'error'] = 'drop',
) -> list[_features_datasets_job.Generated]:
    """Make one dataset, or one a ranked feature; `DatasetConfig` has the settings."""

@overload
def generate_datasets(
    config: DatasetConfig,
    /,
) -> list[_features_datasets_job.Generated]:
    """Make one dataset, or one a ranked feature; `DatasetConfig` has the settings."""


@overload
def generate_text(
    *,
    prompt: _Text,
    output: _File,
    config_path: _File | None = None,
    method: Literal['template', 'ollama', 'openai'] = 'template',
    tokens: int | None = None,
    model_size: Literal['small', 'medium', 'large'] | None = None,
    domain: str = 'auto',
    grammar: _File | None = None,
    tokenizer: _Text | None = None,
    vocab_size: int = 4096,
    seed: int = 0,
    model: _Text | None = None,
    base_url: _Text | None = None,
    timeout_preset: Literal['auto', 'gpu', 'cpu'] = 'auto',
    concurrency: int = 4,
    fallback: Literal['auto', 'never', 'always'] = 'auto',
    temperature: float = 0.8,
    max_tokens: int = 150,
    retry_failed: bool = False,
    export: Literal['text2gpt'] | None = None,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _text_generate_job.GeneratedText:
    """Write documents about a prompt until they have the tokens asked for; `GenerateTextConfig` has the settings."""

@overload
def generate_text(
    *,
    config_path: _File,
    prompt: _Text = ...,
    output: _File = ...,
    method: Literal['template', 'ollama', 'openai'] = 'template',
    tokens: int | None = None,
    model_size: Literal['small', 'medium', 'large'] | None = None,
    domain: str = 'auto',
    grammar: _File | None = None,
    tokenizer: _Text | None = None,
    vocab_size: int = 4096,
    seed: int = 0,
    model: _Text | None = None,
    base_url: _Text | None = None,
    timeout_preset: Literal['auto', 'gpu', 'cpu'] = 'auto',
    concurrency: int = 4,
    fallback: Literal['auto', 'never', 'always'] = 'auto',
    temperature: float = 0.8,
    max_tokens: int = 150,
    retry_failed: bool = False,
    export: Literal['text2gpt'] | None = None,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _text_generate_job.GeneratedText:
    """Write documents about a prompt until they have the tokens asked for; `GenerateTextConfig` has the settings."""

@overload
def generate_text(
    config: GenerateTextConfig,
    /,
) -> _text_generate_job.GeneratedText:
    """Write documents about a prompt until they have the tokens asked for; `GenerateTextConfig` has the settings."""


@overload
def make_split(
    *,
    input: _File,
    config_path: _File | None = None,
    output: _File = ...,
    test_size: float = 0.2,
    validation_size: float = 0.0,
    seed: int = 0,
    near_duplicates: float = 0.8,
    text_column: _Text = 'sentence',
    label_column: _Text = 'concept_strength_label',
    labels: _Text | None = None,
    group_column: _Text | None = None,
    by_column: _Text | None = None,
    test_values: _Text | None = None,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _features_split_job.MadeSplit:
    """Divide the input's sentences and write `splits.json`, unless it is there already."""

@overload
def make_split(
    *,
    config_path: _File,
    input: _File = ...,
    output: _File = ...,
    test_size: float = 0.2,
    validation_size: float = 0.0,
    seed: int = 0,
    near_duplicates: float = 0.8,
    text_column: _Text = 'sentence',
    label_column: _Text = 'concept_strength_label',
    labels: _Text | None = None,
    group_column: _Text | None = None,
    by_column: _Text | None = None,
    test_values: _Text | None = None,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _features_split_job.MadeSplit:
    """Divide the input's sentences and write `splits.json`, unless it is there already."""

@overload
def make_split(
    config: SplitConfig,
    /,
) -> _features_split_job.MadeSplit:
    """Divide the input's sentences and write `splits.json`, unless it is there already."""


@overload
def preview_texts(
    *,
    config_path: _File | None = None,
    model: _Texts = ('actlab/tiny',),
    dataset: _File | Sequence[_File] = ...,
    output: _File = ...,
    splits: _Text = 'EM,Neutral',
    layers: _Text = 'all',
    position: str = 'last',
    max_length: int = 2048,
    truncate: Literal['prompt', 'left', 'right', 'error'] = 'prompt',
    chat_template: bool = False,
    template_date: _Text | None = None,
    shard_size: int = 512,
    dtype: Literal['float16', 'float32', 'bfloat16', 'model'] = 'float16',
    model_dtype: Literal['auto', 'float32', 'float16', 'bfloat16'] = 'auto',
    load_in_4bit: bool = False,
    trust_remote_code: bool = False,
    batch_size: int = 32,
    batch_tokens: int = 4096,
    limit: int | None = None,
    revision: _Text | None = None,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'auto',
    on_bad: Literal['drop', 'error'] = 'drop',
    preview: int | None = None,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    part: _Text | None = None,
) -> Iterator[str]:
    """Yield the first joined texts as the first model sees them, the saved token between ⟦ and ⟧."""

@overload
def preview_texts(
    config: ExtractConfig,
    /,
) -> Iterator[str]:
    """Yield the first joined texts as the first model sees them, the saved token between ⟦ and ⟧."""


@overload
def rank_features(
    *,
    input: _File,
    output: _File,
    config_path: _File | None = None,
    split: _File | None = None,
    check: bool = False,
    layers: _Text = 'all',
    average_l0: int | None = None,
    rows: Literal['final', 'all', 'mean', 'max'] = 'final',
    min_pearson: float = 0.4,
    min_tpr: float = 0.5,
    max_fpr: float = 0.2,
    top: int | None = None,
    permutations: int = 0,
    seed: int = 0,
    examples: int = 10,
    top_examples: int = 20,
    plots: bool = True,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _features_rank_job.Ranked:
    """Rank the features of all layers by how they follow the sentences' label."""

@overload
def rank_features(
    *,
    config_path: _File,
    input: _File = ...,
    output: _File = ...,
    split: _File | None = None,
    check: bool = False,
    layers: _Text = 'all',
    average_l0: int | None = None,
    rows: Literal['final', 'all', 'mean', 'max'] = 'final',
    min_pearson: float = 0.4,
    min_tpr: float = 0.5,
    max_fpr: float = 0.2,
    top: int | None = None,
    permutations: int = 0,
    seed: int = 0,
    examples: int = 10,
    top_examples: int = 20,
    plots: bool = True,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _features_rank_job.Ranked:
    """Rank the features of all layers by how they follow the sentences' label."""

@overload
def rank_features(
    config: RankConfig,
    /,
) -> _features_rank_job.Ranked:
    """Rank the features of all layers by how they follow the sentences' label."""


@overload
def refine_text(
    *,
    input: _File,
    output: _File,
    config_path: _File | None = None,
    tokens: int | None = None,
    preset: Literal['short', 'story', 'web'] = 'short',
    gate: str | Sequence[str] = (),
    select: Literal['greedy', 'top'] = 'greedy',
    min_score: float = 0.5,
    near_duplicates: float = 0.7,
    prompt: _Text | None = None,
    tokenizer: _Text | None = None,
    context: int = 256,
    judge: _Text | None = None,
    judge_api: Literal['ollama', 'openai'] = 'ollama',
    base_url: _Text | None = None,
    timeout_preset: Literal['auto', 'gpu', 'cpu'] = 'auto',
    plots: bool = True,
    export: Literal['text2gpt'] | None = None,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _text_refine_job.RefinedText:
    """Choose well-formed and varied documents of a dataset, and write them with scores, rejects and a report."""

@overload
def refine_text(
    *,
    config_path: _File,
    input: _File = ...,
    output: _File = ...,
    tokens: int | None = None,
    preset: Literal['short', 'story', 'web'] = 'short',
    gate: str | Sequence[str] = (),
    select: Literal['greedy', 'top'] = 'greedy',
    min_score: float = 0.5,
    near_duplicates: float = 0.7,
    prompt: _Text | None = None,
    tokenizer: _Text | None = None,
    context: int = 256,
    judge: _Text | None = None,
    judge_api: Literal['ollama', 'openai'] = 'ollama',
    base_url: _Text | None = None,
    timeout_preset: Literal['auto', 'gpu', 'cpu'] = 'auto',
    plots: bool = True,
    export: Literal['text2gpt'] | None = None,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _text_refine_job.RefinedText:
    """Choose well-formed and varied documents of a dataset, and write them with scores, rejects and a report."""

@overload
def refine_text(
    config: RefineConfig,
    /,
) -> _text_refine_job.RefinedText:
    """Choose well-formed and varied documents of a dataset, and write them with scores, rejects and a report."""


@overload
def reproduce(
    *,
    dir: _File,
    example_id: int,
    config_path: _File | None = None,
    tokenizer: _Text | None = None,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'cpu',
    plugins: _Texts = (),
    quiet: bool = False,
    json: bool = False,
) -> _weights_reproduce.Reproduced:
    """Make an example again and compare it with the stored one; `ReproduceConfig` has the settings."""

@overload
def reproduce(
    *,
    config_path: _File,
    dir: _File = ...,
    example_id: int = ...,
    tokenizer: _Text | None = None,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'cpu',
    plugins: _Texts = (),
    quiet: bool = False,
    json: bool = False,
) -> _weights_reproduce.Reproduced:
    """Make an example again and compare it with the stored one; `ReproduceConfig` has the settings."""

@overload
def reproduce(
    config: _weights_config_examples.ReproduceConfig,
    /,
) -> _weights_reproduce.Reproduced:
    """Make an example again and compare it with the stored one; `ReproduceConfig` has the settings."""


@overload
def run_data_gen(
    *,
    config_path: _File | None = None,
    signature: _weights_config_output.SignatureSettings | Mapping[str, object] = ...,
    model: _weights_config_networks.ModelSettings | Mapping[str, object] = ...,
    dataset: _weights_config_networks.DatasetSettings | Mapping[str, object] = ...,
    training: _weights_config_networks.TrainingSettings | Mapping[str, object] = ...,
    staged_training: _weights_config_networks.StagedTraining | Mapping[str, object] = ...,
    validation: _weights_config_networks.ValidationSettings | Mapping[str, object] = ...,
    pipeline: _weights_config_networks.PipelineSettings | Mapping[str, object] = ...,
    metrics: _weights_config_output.MetricsSettings | Mapping[str, object] = ...,
    task_generation: _weights_config_output.TaskSettings | Mapping[str, object] = ...,
    hub: _weights_config_output.HubSettings | Mapping[str, object] = ...,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    part: _Text | None = None,
    quantization_scale: Literal['per-tensor', 'per-channel'] = 'per-tensor',
    strict: bool = False,
    output: _File = ...,
    seed: int = 42,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'cpu',
    workers: int = 1,
    tokenizer: _Text | None = None,
    max_prompt_tokens: int | None = None,
) -> _weights_job.Generated:
    """Train subject networks and write those that are accepted; `DataGenConfig` has the settings."""

@overload
def run_data_gen(
    config: DataGenConfig,
    /,
) -> _weights_job.Generated:
    """Train subject networks and write those that are accepted; `DataGenConfig` has the settings."""


@overload
def score_interpreter(
    *,
    dir: _File,
    predictions: _File,
    config_path: _File | None = None,
    benchmark: _File | None = None,
    output: _File | None = None,
    overwrite: bool = False,
    plugins: _Texts = (),
    quiet: bool = False,
    json: bool = False,
) -> _weights_score_report.Report:
    """Score an interpreter's predictions; `ScoreConfig` has the settings."""

@overload
def score_interpreter(
    *,
    config_path: _File,
    dir: _File = ...,
    predictions: _File = ...,
    benchmark: _File | None = None,
    output: _File | None = None,
    overwrite: bool = False,
    plugins: _Texts = (),
    quiet: bool = False,
    json: bool = False,
) -> _weights_score_report.Report:
    """Score an interpreter's predictions; `ScoreConfig` has the settings."""

@overload
def score_interpreter(
    config: _weights_config_examples.ScoreConfig,
    /,
) -> _weights_score_report.Report:
    """Score an interpreter's predictions; `ScoreConfig` has the settings."""


@overload
def sweep_datasets(
    *,
    input: _File | Sequence[_File],
    output: _File,
    strategy: str | Sequence[str],
    config_path: _File | None = None,
    normalize: str | Sequence[str] = ('standardize',),
    layers: _Texts = (),
    target: _Texts = (),
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    rows: Literal['final', 'all', 'mean'] = 'final',
    average_l0: int | None = None,
    features_from: _File | None = None,
    top: int = 1,
    split: _File | None = None,
    fit_norm: Literal['train', 'all'] | None = None,
    groups: bool = False,
    format: Literal['npz', 'parquet'] | None = None,
    check: bool = False,
    on_bad: Literal['drop', 'error'] = 'drop',
) -> list[_features_datasets_job.Generated]:
    """Make every dataset of a sweep; `SweepConfig` has the settings."""

@overload
def sweep_datasets(
    *,
    config_path: _File,
    input: _File | Sequence[_File] = ...,
    output: _File = ...,
    strategy: str | Sequence[str] = ...,
    normalize: str | Sequence[str] = ('standardize',),
    layers: _Texts = (),
    target: _Texts = (),
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    rows: Literal['final', 'all', 'mean'] = 'final',
    average_l0: int | None = None,
    features_from: _File | None = None,
    top: int = 1,
    split: _File | None = None,
    fit_norm: Literal['train', 'all'] | None = None,
    groups: bool = False,
    format: Literal['npz', 'parquet'] | None = None,
    check: bool = False,
    on_bad: Literal['drop', 'error'] = 'drop',
) -> list[_features_datasets_job.Generated]:
    """Make every dataset of a sweep; `SweepConfig` has the settings."""

@overload
def sweep_datasets(
    config: SweepConfig,
    /,
) -> list[_features_datasets_job.Generated]:
    """Make every dataset of a sweep; `SweepConfig` has the settings."""


@overload
def tokenize_text(
    *,
    input: _File,
    output: _File,
    config_path: _File | None = None,
    tokenizer: _Text | None = None,
    vocab_size: int = 2048,
    validation: float = 0.1,
    near_duplicates: float = 0.7,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _text_tokenize_job.Tokenized:
    """Split documents and write them as streams of ids; `TokenizeConfig` has the settings."""

@overload
def tokenize_text(
    *,
    config_path: _File,
    input: _File = ...,
    output: _File = ...,
    tokenizer: _Text | None = None,
    vocab_size: int = 2048,
    validation: float = 0.1,
    near_duplicates: float = 0.7,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _text_tokenize_job.Tokenized:
    """Split documents and write them as streams of ids; `TokenizeConfig` has the settings."""

@overload
def tokenize_text(
    config: TokenizeConfig,
    /,
) -> _text_tokenize_job.Tokenized:
    """Split documents and write them as streams of ids; `TokenizeConfig` has the settings."""


@overload
def train_gpt(
    *,
    input: _File,
    output: _File,
    config_path: _File | None = None,
    model_size: Literal['tiny', 'small', 'medium', 'large'] = 'tiny',
    architecture: Literal['llama', 'gpt2'] = 'llama',
    steps: int | None = None,
    epochs: float | None = None,
    batch_size: int = 8,
    context: int = 128,
    learning_rate: float = 0.003,
    warm_up: float = 0.1,
    weight_decay: float = 0.1,
    boundaries: Literal['pack', 'doc'] = 'pack',
    eval_every: int = 100,
    eval_tokens: int = 32768,
    n_samples: int = 2,
    sample_tokens: int = 40,
    seed: int = 0,
    checkpoint_every: int = 100,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'auto',
    tensorboard: bool = True,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _text_train_gpt_job.TrainedGpt:
    """Train a GPT on a token dataset and save it; `TrainGptConfig` has the settings."""

@overload
def train_gpt(
    *,
    config_path: _File,
    input: _File = ...,
    output: _File = ...,
    model_size: Literal['tiny', 'small', 'medium', 'large'] = 'tiny',
    architecture: Literal['llama', 'gpt2'] = 'llama',
    steps: int | None = None,
    epochs: float | None = None,
    batch_size: int = 8,
    context: int = 128,
    learning_rate: float = 0.003,
    warm_up: float = 0.1,
    weight_decay: float = 0.1,
    boundaries: Literal['pack', 'doc'] = 'pack',
    eval_every: int = 100,
    eval_tokens: int = 32768,
    n_samples: int = 2,
    sample_tokens: int = 40,
    seed: int = 0,
    checkpoint_every: int = 100,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'auto',
    tensorboard: bool = True,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _text_train_gpt_job.TrainedGpt:
    """Train a GPT on a token dataset and save it; `TrainGptConfig` has the settings."""

@overload
def train_gpt(
    config: TrainGptConfig,
    /,
) -> _text_train_gpt_job.TrainedGpt:
    """Train a GPT on a token dataset and save it; `TrainGptConfig` has the settings."""


@overload
def train_probe(
    *,
    output: _File,
    config_path: _File | None = None,
    input: _File | Sequence[_File] = (),
    positive: _File | None = None,
    negative: _File | None = None,
    model_type: Literal['auto', 'logistic', 'ridge', 'difference-of-means'] = 'auto',
    layers: _Text = 'all',
    split: _File | None = None,
    test_size: float = 0.2,
    folds: int = 5,
    regularization: float = 1.0,
    bootstrap: int | None = None,
    seed: int = 0,
    allow_leak: bool = False,
    plots: bool = True,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _features_probe_job.Trained:
    """Fit linear probes, test them on held-out rows and write them; `ProbeConfig` has the settings."""

@overload
def train_probe(
    *,
    config_path: _File,
    input: _File | Sequence[_File] = (),
    positive: _File | None = None,
    negative: _File | None = None,
    output: _File = ...,
    model_type: Literal['auto', 'logistic', 'ridge', 'difference-of-means'] = 'auto',
    layers: _Text = 'all',
    split: _File | None = None,
    test_size: float = 0.2,
    folds: int = 5,
    regularization: float = 1.0,
    bootstrap: int | None = None,
    seed: int = 0,
    allow_leak: bool = False,
    plots: bool = True,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> _features_probe_job.Trained:
    """Fit linear probes, test them on held-out rows and write them; `ProbeConfig` has the settings."""

@overload
def train_probe(
    config: ProbeConfig,
    /,
) -> _features_probe_job.Trained:
    """Fit linear probes, test them on held-out rows and write them; `ProbeConfig` has the settings."""


@overload
def train_sae(
    *,
    input: _File,
    output: _File,
    config_path: _File | None = None,
    model: _Text = 'actlab/tiny',
    layers: _Text = 'all',
    architecture: Literal['topk', 'jumprelu'] = 'topk',
    n_features: int = 1024,
    k: int = 16,
    n_steps: int = 1000,
    batch_size: int = 512,
    learning_rate: float = 0.001,
    text_column: _Text = 'sentence',
    limit: int | None = None,
    max_length: int = 512,
    seed: int = 0,
    trust_remote_code: bool = False,
    revision: _Text | None = None,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'auto',
    tensorboard: bool = True,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    part: _Text | None = None,
) -> _features_train_sae_job.TrainedSaes:
    """Train one SAE a layer; `TrainSaeConfig` has the settings."""

@overload
def train_sae(
    *,
    config_path: _File,
    input: _File = ...,
    output: _File = ...,
    model: _Text = 'actlab/tiny',
    layers: _Text = 'all',
    architecture: Literal['topk', 'jumprelu'] = 'topk',
    n_features: int = 1024,
    k: int = 16,
    n_steps: int = 1000,
    batch_size: int = 512,
    learning_rate: float = 0.001,
    text_column: _Text = 'sentence',
    limit: int | None = None,
    max_length: int = 512,
    seed: int = 0,
    trust_remote_code: bool = False,
    revision: _Text | None = None,
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'auto',
    tensorboard: bool = True,
    plugins: _Texts = (),
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
    part: _Text | None = None,
) -> _features_train_sae_job.TrainedSaes:
    """Train one SAE a layer; `TrainSaeConfig` has the settings."""

@overload
def train_sae(
    config: TrainSaeConfig,
    /,
) -> _features_train_sae_job.TrainedSaes:
    """Train one SAE a layer; `TrainSaeConfig` has the settings."""
