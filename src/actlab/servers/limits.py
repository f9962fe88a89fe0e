"""How long to wait: for a connection, the first token, the next one, the whole reply, and the model's loading."""

from dataclasses import dataclass, replace
from typing import Self

from actlab.ground.errors import ConfigError, did_you_mean
from actlab.servers.environment import ServerEnvironment


@dataclass(frozen=True, kw_only=True)
class TimeoutLimits:
    """Seconds, each limit for itself."""

    connect_s: float
    first_token_s: float
    """From the start of the request, so that the wait for a free slot counts."""
    idle_s: float
    """Between two tokens."""
    total_s: float
    evaluation_s: float
    """In place of `total_s` where a text is judged."""
    load_s: float = 600.0
    """For loading the model, once, before the first request: a cold load passes every other limit."""
    preflight_s: float = 2.0
    """For each question about the server itself, which needs no model."""

    def for_evaluation(self) -> Self:
        """Return the limits for judging a text instead of writing one."""
        return replace(self, first_token_s=min(self.first_token_s, self.evaluation_s), total_s=self.evaluation_s)


PRESETS = {
    "gpu": TimeoutLimits(connect_s=5, first_token_s=30, idle_s=10, total_s=30, evaluation_s=10),
    "cpu": TimeoutLimits(connect_s=5, first_token_s=300, idle_s=60, total_s=300, evaluation_s=60),
}
"""The seed document's connect, generate and evaluate times; silence may last as long as an evaluation."""
AUTO = "auto"


def limits_for(preset: str, environment: ServerEnvironment, *, on_gpu: bool | None = None) -> TimeoutLimits:
    """Return a preset's limits with the environment's changes.

    A preset in the environment stands in for "auto". "auto" means "gpu" where the server says that the model is
    there (`on_gpu`), and the patient limits otherwise.

    Raises:
        ConfigError: There is no such preset.
    """
    name = (environment.preset or preset) if preset == AUTO else preset
    if name == AUTO:
        name = "gpu" if on_gpu else "cpu"
    if name not in PRESETS:
        known = [AUTO, *PRESETS]
        raise ConfigError(
            f"there is no time-out preset {name!r}",
            hint=did_you_mean(name, known, otherwise=f"presets: {', '.join(known)}"),
        )
    changes = {
        "connect_s": environment.connection_s,
        "first_token_s": environment.generation_s,
        "total_s": environment.generation_s,
        "evaluation_s": environment.evaluation_s,
    }
    return replace(PRESETS[name], **{limit: given for limit, given in changes.items() if given is not None})
