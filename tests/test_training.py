"""Many at once or one at a time: the same training. torch's own modules and Adam are the oracle, through train_one."""

import dataclasses

import numpy as np
import pytest
import torch

from actlab.weights.networks import ACTIVATIONS, Architecture, answers, initial_weights
from actlab.weights.training.adam import Adam, step_factors
from actlab.weights.training.batched import train_many
from actlab.weights.training.spec import Schedule, TrainingSpec
from tests.reference_training import train_one

SCHEDULE = Schedule(
    batch_size=32,
    epochs=9,
    max_degraded_epochs=5,
    min_improvement_threshold=0.02,
    improvement_epochs=6,
    improvement_lr_factor=0.9,
    patience=2,
)
STAGES = ("degraded", "improved")
SMOOTH = tuple(name for name in ACTIVATIONS if name != "leaky_relu")


def make_spec(number: int, *, activations=tuple(ACTIVATIONS), layers=None, width=None, dropout=0.0, n_rows=None):
    """Rows that say whether the first letter is before the last; one label in five is corrupted."""
    rng = np.random.default_rng(number)
    n_layers, n_neurons, n_train = rng.integers(2, 5), rng.integers(5, 13), rng.integers(40, 91)
    architecture = Architecture(
        vocab_size=7,
        sequence_length=5,
        num_layers=layers or int(n_layers),
        neurons_per_layer=width or int(n_neurons),
        activation_type=activations[number % len(activations)],
        dropout_rate=dropout,
    )
    train = rng.integers(0, 7, (n_rows or n_train, 5)).astype(np.uint8)
    validation = rng.integers(0, 7, (int(rng.integers(20, 41)), 5)).astype(np.uint8)
    labels = train[:, 0] < train[:, -1]
    return TrainingSpec(
        architecture=architecture,
        initial=initial_weights(architecture, rng),
        learning_rate=float(np.exp(rng.uniform(np.log(0.001), np.log(0.06)))),
        seed=number,
        train_tokens=train,
        corrupted_labels=labels ^ (rng.random(len(labels)) < 0.2),
        clean_labels=labels,
        validation_tokens=validation,
        validation_labels=validation[:, 0] < validation[:, -1],
    )


def flat(weights) -> np.ndarray:
    return np.concatenate([values.ravel() for layer in weights for values in layer])


def share_of_equal_weights(some, others) -> float:
    equal = [flat(getattr(a, m)) == flat(getattr(b, m)) for a, b in zip(some, others, strict=True) for m in STAGES]
    return float(np.concatenate(equal).mean())


def accuracies(trained) -> list[list[tuple[int, int, float]]]:
    return [[(one.stage, one.epoch, round(one.validation_accuracy, 9)) for one in each.history] for each in trained]


def test_a_hundred_mixed_networks_train_together_as_each_does_alone():
    specs = [make_spec(number) for number in range(100)]
    together = train_many(specs, SCHEDULE, dtype=torch.float64)
    alone = [train_one(spec, SCHEDULE, dtype=torch.float64) for spec in specs]
    lengths = [tuple([e.stage for e in one.history].count(stage) for stage in (1, 2)) for one in alone]
    assert len(set(lengths)) > 5, "they should stop at different epochs"
    assert share_of_equal_weights(together, alone) >= 0.999
    assert accuracies(together) == accuracies(alone)
    losses, expected = (
        np.array([(e.train_loss, e.validation_loss) for one in trained for e in one.history])
        for trained in (together, alone)
    )
    np.testing.assert_allclose(losses, expected, atol=1.5e-6)


def test_in_float32_accuracies_differ_by_a_hundredth_at_most_on_average():
    specs = [make_spec(number) for number in range(30)]
    fixed = dataclasses.replace(SCHEDULE, min_improvement_threshold=9.0, patience=99)
    together, alone = train_many(specs, fixed), [train_one(spec, fixed) for spec in specs]
    differences = [
        abs(a.validation_accuracy - b.validation_accuracy)
        for some, others in zip(together, alone, strict=True)
        for a, b in zip(some.history, others.history, strict=True)
    ]
    assert np.mean(differences) <= 0.01
    assert all(layer.weight.dtype == layer.bias.dtype == np.float32 for layer in together[0].improved)


@pytest.mark.parametrize("scale", ["per-tensor", "per-channel"])
@pytest.mark.parametrize("method", ["ternary", "binary"])
def test_few_valued_weights_train_together_as_they_do_alone(method, scale):
    # not the leaky ReLU: its units cancel to zero but for the last bit, where its slope jumps
    specs = [make_spec(number, activations=SMOOTH) for number in range(12)]
    schedule = dataclasses.replace(SCHEDULE, quantization=method, quantization_scale=scale)
    together = train_many(specs, schedule, dtype=torch.float64)
    alone = [train_one(spec, schedule, dtype=torch.float64) for spec in specs]
    assert share_of_equal_weights(together, alone) >= 0.999
    assert [len(one.history) for one in together] == [len(one.history) for one in alone]
    floats = train_many(specs, SCHEDULE, dtype=torch.float64)
    assert share_of_equal_weights(together, floats) < 0.5, "the quantised forward pass should show"


def test_dropout_takes_the_same_units_together_and_alone():
    specs = [make_spec(number, dropout=0.2 if number % 3 else 0.0) for number in range(15)]
    together = train_many(specs, SCHEDULE, dtype=torch.float64)
    alone = [train_one(spec, SCHEDULE, dtype=torch.float64) for spec in specs]
    assert share_of_equal_weights(together, alone) >= 0.999
    assert accuracies(together) == accuracies(alone)
    without = train_many([make_spec(1)], SCHEDULE, dtype=torch.float64)
    assert not np.array_equal(flat(without[0].improved), flat(together[1].improved))


@pytest.mark.parametrize("method", ["none", "ternary", "binary"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nothing_leaks_from_wider_and_longer_neighbours(activation, method):
    schedule = dataclasses.replace(SCHEDULE, quantization=method, epochs=2, max_degraded_epochs=1)
    narrow = make_spec(0, activations=(activation,), layers=2, width=5, n_rows=70)
    wide = [make_spec(k, activations=(activation,), layers=2, width=8, n_rows=70 * k) for k in (1, 2)]
    (alone,) = train_many([narrow], schedule, dtype=torch.float64)
    _, among, _ = train_many([wide[0], narrow, wide[1]], schedule, dtype=torch.float64)
    np.testing.assert_allclose(flat(among.improved), flat(alone.improved), rtol=1e-6, atol=1e-7)
    assert accuracies([among]) == accuracies([alone])


def test_the_same_call_gives_the_same_bytes_and_leaves_torch_as_it_was():
    specs = [make_spec(number, dropout=0.1) for number in range(12)]
    torch.manual_seed(3)
    state, n_threads = torch.random.get_rng_state(), torch.get_num_threads()
    with torch.no_grad():
        first = train_many(specs, SCHEDULE)
        train_one(specs[0], SCHEDULE)
    second = train_many(specs, SCHEDULE)
    assert share_of_equal_weights(first, second) == 1
    assert [one.history for one in first] == [one.history for one in second]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == n_threads


def test_results_come_in_the_order_of_the_specs():
    specs = [make_spec(number) for number in range(12)]
    forwards = train_many(specs, SCHEDULE, dtype=torch.float64)
    backwards = train_many(specs[::-1], SCHEDULE, dtype=torch.float64)[::-1]
    assert share_of_equal_weights(forwards, backwards) >= 0.999
    for spec, trained in zip(specs, forwards, strict=True):
        assert tuple(layer.weight.shape for layer in trained.improved) == spec.architecture.sizes


@pytest.mark.parametrize("train", [lambda specs, s: [train_one(x, s) for x in specs], train_many], ids=["one", "many"])
def test_stages_end_where_the_rules_say(train):
    specs = [make_spec(number) for number in range(20)]
    ended_early, out_of_patience = 0, 0
    for spec, trained in zip(specs, train(specs, SCHEDULE), strict=True):
        first, second = ([e for e in trained.history if e.stage == stage] for stage in (1, 2))
        assert [e.epoch for e in (*first, *second)] == [*range(len(first)), *range(len(second))]
        gains = [first[0].validation_loss - e.validation_loss >= 0.02 for e in first]
        assert not any(gains[:-1])
        assert gains[-1] or len(first) == 5
        limit = min(6, 9 - len(first))
        best = min(second, key=lambda e: e.validation_loss)
        assert len(second) == limit or len(second) == best.epoch + 1 + 2
        ended_early += gains[-1]
        out_of_patience += len(second) < limit
        said = answers(spec.architecture, trained.improved, spec.validation_tokens)
        assert (said == spec.validation_labels).mean() == pytest.approx(best.validation_accuracy)
        said = answers(spec.architecture, trained.degraded, spec.validation_tokens)
        assert (said == spec.validation_labels).mean() == pytest.approx(first[-1].validation_accuracy)
    assert 0 < ended_early < len(specs)
    assert 0 < out_of_patience < len(specs)


@pytest.mark.parametrize("limit", [3, 7])
def test_stage_two_has_an_epoch_even_when_none_is_left(limit):
    schedule = dataclasses.replace(SCHEDULE, epochs=3, max_degraded_epochs=limit, min_improvement_threshold=9.0)
    specs = [make_spec(0)]
    for (trained,) in (train_many(specs, schedule), [train_one(specs[0], schedule)]):
        assert [(e.stage, e.epoch) for e in trained.history] == [(1, 0), (1, 1), (1, 2), (2, 0)]


def test_adam_moves_every_network_as_torch_would_at_its_own_rate_and_step():
    rng = np.random.default_rng(0)
    rates, n_steps = (0.001, 0.01, 0.1), (60, 40, 25)  # the most steps first, as the stacks have them
    gradients_tnq = torch.from_numpy(rng.normal(size=(60, 3, 4)) * 10.0 ** rng.integers(-9, 2, (60, 3, 1)))
    ours_nq = torch.zeros(3, 4, dtype=torch.float64)
    adam = Adam(ours_nq)
    factors_t2n1 = torch.from_numpy(step_factors(np.array(rates), np.zeros(3), 60))
    for t, factors_2n1 in enumerate(factors_t2n1):
        n_active = sum(t < n for n in n_steps)
        adam.step(ours_nq[:n_active], gradients_tnq[t, :n_active].clone(), factors_2n1[:, :n_active])
    for network, (rate, n) in enumerate(zip(rates, n_steps, strict=True)):
        parameter = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
        theirs = torch.optim.Adam([parameter], lr=rate)
        for t in range(n):
            parameter.grad = gradients_tnq[t, network].clone()
            theirs.step()
        torch.testing.assert_close(ours_nq[network], parameter.detach(), rtol=1e-12, atol=1e-15)


def test_a_spec_without_rows_or_with_stray_labels_is_refused():
    spec = make_spec(0)
    with pytest.raises(ValueError, match="none may be empty"):
        dataclasses.replace(spec, validation_tokens=spec.validation_tokens[:0])
    with pytest.raises(ValueError, match="needs its labels"):
        dataclasses.replace(spec, clean_labels=spec.clean_labels[1:])
