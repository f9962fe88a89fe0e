"""How far one network of a stack has come, and when its stages end."""

# q parameters of a network, padded as its stack is

from jaxtyping import Float
from torch import Tensor

from actlab.weights.training.spec import Epoch, Schedule, Trained, TrainingSpec, dropout_stream, order_stream
from actlab.weights.training.stacks import Form


class Run:
    """One network's way through both stages."""

    def __init__(self, spec: TrainingSpec, schedule: Schedule) -> None:
        self.spec, self._schedule = spec, schedule
        self._history: list[Epoch] = []
        self._checkpoints: dict[int, Tensor] = {}
        self._begin(1)

    def _begin(self, stage: int) -> None:
        self.stage = stage
        self.n_steps = 0
        """Adam's, in this stage."""
        self.learning_rate = self.spec.learning_rate * (self._schedule.improvement_lr_factor if stage == 2 else 1)
        self.orders, self.dropout = order_stream(self.spec.seed, stage), dropout_stream(self.spec.seed, stage)
        self._first = len(self._history)
        self._best: Epoch | None = None

    def begin_next_stage(self) -> bool:
        """Go on to stage 2, or say that there is none to go on to."""
        if self.stage == 2:
            return False
        self._begin(2)
        return True

    def record(
        self, train_loss: float, validation_loss: float, validation_accuracy: float, parameters_q: Float[Tensor, " q"]
    ) -> bool:
        """Take an epoch down, with its weights where they count; return whether the stage is over."""
        number = len(self._history) - self._first
        epoch = Epoch.measured(self.stage, number, train_loss, validation_loss, validation_accuracy)
        self._history.append(epoch)
        if self.stage == 1:
            gain = self._history[0].validation_loss - epoch.validation_loss
            is_better = number > 0 and gain >= self._schedule.min_improvement_threshold
            is_over = is_better or number + 1 == self._schedule.n_degraded_epochs
            if is_over:
                self._checkpoints[1] = parameters_q.clone()
            return is_over
        if self._best is None or epoch.validation_loss < self._best.validation_loss:
            self._best, self._checkpoints[2] = epoch, parameters_q.clone()
        is_last = number + 1 == self._schedule.n_improvement_epochs(self._first)
        return is_last or number - self._best.epoch >= self._schedule.patience

    def result(self, form: Form) -> Trained:
        """Return both checkpoints and the history."""
        degraded, improved = (form.unpack(self._checkpoints[stage], self.spec.architecture) for stage in (1, 2))
        return Trained(degraded, improved, tuple(self._history))
