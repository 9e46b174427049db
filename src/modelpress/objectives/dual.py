"""What a dual encoder learns from another one: the parts of a distillation for an image and a text tower."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.errors import ModelPressError
from modelpress.models.base import Batch, Model, Output
from modelpress.objectives import contrastive

TOWERS = ("image", "text")
PROJECTED = frozenset({"hidden", "cosine", "interactive"})  # parts that hold the student's embeddings to the teacher's


class DualDistillation(nn.Module):
    """The losses of ``modelpress.objectives.contrastive`` by the names of the parts.

    Where widths differ the student's embeddings pass through a learned linear projection with bias, one per tower
    (``projections["image"]``, ``projections["text"]``), which all parts that need it share.
    """

    def __init__(self, widths: tuple[int, int], parts: Iterable[str], temperature: float, smoothing: float) -> None:
        """``widths``: of the student's and of the teacher's embeddings."""
        super().__init__()
        self.widths, self.temperature, self.smoothing = widths, temperature, smoothing
        learned = TOWERS if widths[0] != widths[1] and PROJECTED & set(parts) else ()
        self.projections = nn.ModuleDict({tower: nn.Linear(*widths) for tower in learned})

    @classmethod
    def bound(
        cls, before: DualDistillation | None, student: Model, teacher: Model, parts: Iterable[str], *options: float
    ) -> DualDistillation:
        """Fitted to the two networks. ``before`` if the widths are still those: projections outlive pruned layers."""
        if student.embedding_width is None or teacher.embedding_width is None:
            raise ModelPressError(
                f"The student is a dual encoder and its teacher, a {type(teacher).__name__}, is none: "
                "choose a teacher with an image and a text tower, e.g. model@teacher=clip_small."
            )
        widths = student.embedding_width, teacher.embedding_width
        return before if before is not None and before.widths == widths else cls(widths, parts, *options)

    def losses(self, parts: Iterable[str], student: Output, batch: Batch, teacher: Output) -> dict[str, Tensor]:
        """Unweighted scalar losses of ``parts``; ``batch["labels"]`` (B,) says which pairs belong together."""
        return {part: getattr(self, f"_{part}")(student, batch["labels"], teacher) for part in parts}

    def _hard(self, student: Output, labels: Tensor, teacher: Output) -> Tensor:
        return contrastive.info_nce(pairwise(student), labels, self.smoothing)

    def _soft(self, student: Output, labels: Tensor, teacher: Output) -> Tensor:
        return contrastive.soft_similarities(pairwise(student), pairwise(teacher, "teacher"), self.temperature)

    def _affinity(self, student: Output, labels: Tensor, teacher: Output) -> Tensor:
        return contrastive.affinity(pairwise(student), pairwise(teacher, "teacher"))

    def _hidden(self, student: Output, labels: Tensor, teacher: Output) -> Tensor:
        image, text = zip(self._projected(student), embeddings(teacher, "teacher"), strict=True)
        return (contrastive.feature_distance(*image) + contrastive.feature_distance(*text)) / 2

    def _cosine(self, student: Output, labels: Tensor, teacher: Output) -> Tensor:
        image, text = zip(self._projected(student), embeddings(teacher, "teacher"), strict=True)
        return (contrastive.feature_cosine(*image) + contrastive.feature_cosine(*text)) / 2

    def _interactive(self, student: Output, labels: Tensor, teacher: Output) -> Tensor:
        image, text = (F.normalize(tower.float(), dim=-1) for tower in self._projected(student))
        others = embeddings(teacher, "teacher")
        return contrastive.interactive((image, text), others, scale_of(student), labels, self.smoothing)

    def _projected(self, student: Output) -> tuple[Tensor, Tensor]:
        image, text = embeddings(student)
        if not self.projections:
            return image, text
        return self.projections["image"](image), self.projections["text"](text)


def embeddings(output: Output, who: str = "model") -> tuple[Tensor, Tensor]:
    """Image and text embeddings, (B, E) each, or a clear error."""
    found = output.embeddings or {}
    missing = [tower for tower in TOWERS if tower not in found]
    if missing:
        raise ModelPressError(
            f"The {who} returned no {' and no '.join(missing)} embeddings; a contrastive objective needs a dual "
            "encoder and batches of images and texts: choose an image-text dataset, e.g. dataset=emoji."
        )
    return found["image"], found["text"]


def scale_of(output: Output, who: str = "model") -> Tensor:
    """What cosines are multiplied by, (), or a clear error."""
    if output.scale is None:
        raise ModelPressError(f"The {who} returned no scale beside its embeddings, so its similarities are unknown.")
    return output.scale


def pairwise(output: Output, who: str = "model") -> Tensor:
    """Similarities (B, B) of all images with all texts of a batch, at the network's own scale."""
    return contrastive.similarities(*embeddings(output, who), scale_of(output, who))
