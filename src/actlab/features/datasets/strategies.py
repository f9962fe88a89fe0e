"""Strategies: what predicts what in a classifier dataset. Adding one is adding a `Strategy` to the table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actlab.ground.variants import Table, Variant

OF_FEATURES = ("target_layer", "target_feature", "target_features", "features_from", "average_l0")
OF_LAYERS = ("layer", "layers")
OWN_FLAGS = (*OF_FEATURES, "input_layer", *OF_LAYERS)
"""Settings that not every strategy takes."""


@dataclass(frozen=True, kw_only=True)
class Strategy(Variant):
    """What X and y are. Its hint says how to give what it needs."""

    input_source: Literal["embeddings", "hidden_states", "activations"]
    """What X is made of; activations are those of SAE features."""
    is_concept: bool
    """Whether y is the label; else it is the activations of features."""
    stem: str
    """What a file's {name} says of X, with {layers}, {layer} and {features}."""
    inputs: Callable[[Any], Any]
    """From the `Rows` of `compute` to X, [samples, columns]."""
    targets: Callable[[Any], Any]
    """From the `Rows` of `compute` to y."""

    @property
    def has_features(self) -> bool:
        """Whether SAE features are chosen for it, as targets or as columns of X."""
        return not self.is_concept or self.input_source == "activations"

    @property
    def names_layers(self) -> bool:
        """Whether its layers have to be given."""
        return self.input_source == "hidden_states" and not self.has_features

    @property
    def takes(self) -> tuple[str, ...]:
        """Which of `OWN_FLAGS` it takes."""
        own = OF_LAYERS if self.names_layers else OF_FEATURES if self.has_features else ()
        return (*own, "input_layer") if self.input_source == "hidden_states" and self.has_features else own

    def layers(self, named: Sequence[int], of_features: Sequence[int]) -> tuple[int, ...]:
        """Return X's layers: those that settings name, else its features', of hidden states the first one's."""
        if self.input_source == "embeddings":
            return ()
        return tuple(named or (of_features[:1] if self.input_source == "hidden_states" else of_features))


_FEATURES_HINT = "take them from ranked_features.csv, or give --features-from ranked_features.csv"

STRATEGIES = Table(
    "strategy",
    Strategy(
        name="embedding-to-feature",
        help="X is the embeddings, y an SAE feature (--target-layer, --target-feature)",
        hint=_FEATURES_HINT,
        input_source="embeddings",
        is_concept=False,
        stem="emb",
        inputs=lambda rows: rows.embeddings,
        targets=lambda rows: rows.targets,
    ),
    Strategy(
        name="hidden-to-feature",
        help="X is the hidden states, y an SAE feature (--target-layer, --target-feature)",
        hint=_FEATURES_HINT,
        input_source="hidden_states",
        is_concept=False,
        stem="h{layers}",
        inputs=lambda rows: rows.side_by_side,
        targets=lambda rows: rows.targets,
    ),
    Strategy(
        name="hidden-to-concept",
        help="X is the hidden states, y the label (--layer or --layers)",
        hint="use --layer for one layer, --layers for several, not both",
        input_source="hidden_states",
        is_concept=True,
        stem="h{layers}",
        inputs=lambda rows: rows.side_by_side,
        targets=lambda rows: rows.labels,
    ),
    Strategy(
        name="feature-to-concept",
        help="X is SAE features, y the label (--target-layer, --target-features)",
        hint=_FEATURES_HINT,
        input_source="activations",
        is_concept=True,
        stem="l{layer}_f{features}",
        inputs=lambda rows: rows.features,
        targets=lambda rows: rows.labels,
    ),
)
