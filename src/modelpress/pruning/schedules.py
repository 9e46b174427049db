"""How much is pruned when. Pure functions of training progress, which runs from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

from modelpress.errors import ModelPressError, one_of
from modelpress.quantization.observers import checked

NAMES = ("one_shot", "linear", "cubic")


@dataclass(frozen=True)
class Schedule:
    """Sparsity over a stage: dense until ``begin``, rising in ``updates`` equal steps of time until ``end``, then
    constant: the tail in which the network recovers.

    ``one_shot`` prunes everything at ``begin`` and reads neither ``end`` nor ``updates``. ``linear`` adds the same
    share at every update. ``cubic`` prunes fast at first, while there is much to spare, and ever more slowly after
    ("To prune, or not to prune", arXiv:1710.01878):

        s(t) = s_final + (s_initial - s_final) (1 - (t - begin) / (end - begin))^3

    Raises:
        ModelPressError: an unknown name, or shares that do not follow each other.
    """

    name: str
    begin: float
    end: float
    updates: int

    def __post_init__(self) -> None:
        one_of("transform.schedule", self.name, NAMES)
        checked("transform.begin", self.begin, "a share of the training from 0 to below 1", lambda s: 0 <= s < 1)
        checked("transform.end", self.end, "a share of the training from 0 to below 1", lambda s: 0 <= s < 1)
        checked("transform.updates", self.updates, "a whole number from 1", lambda n: n >= 1 and n % 1 == 0)
        if self.end < self.begin and self.name != "one_shot":
            raise ModelPressError(
                f"transform.begin is {self.begin:g} and transform.end {self.end:g}; pruning cannot end before it "
                "begins. Set transform.end to transform.begin or more; what follows it is left for recovery."
            )

    @property
    def final_from(self) -> float:
        """From which progress on nothing more is pruned."""
        return self.begin if self.name == "one_shot" else self.end

    def sparsity(self, progress: float, final: float, initial: float = 0.0) -> float:
        """The share that is to be gone at ``progress``, from ``initial`` to ``final``.

        >>> plan = Schedule("linear", begin=0.25, end=0.75, updates=2)
        >>> [plan.sparsity(progress, 0.8) for progress in (0.2, 0.3, 0.5, 0.7, 0.75)]
        [0.0, 0.0, 0.4, 0.4, 0.8]
        """
        if progress < self.begin:
            return initial
        if progress >= self.final_from:
            return final
        left = 1.0 - self._done(progress)
        return initial + (final - initial) * (1.0 - (left**3 if self.name == "cubic" else left))

    def _done(self, progress: float) -> float:
        """Share of the updates that are due; the tiny addition keeps 0.3 / 0.1 from being 2."""
        return int((progress - self.begin) / (self.end - self.begin) * self.updates + 1e-9) / self.updates
