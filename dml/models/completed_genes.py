"""The frozen teacher with gene embeddings sampled from the slide: completion by flow matching.

    o^k    = sample k of [o_tumor; o_tme] given the mean token       `dml.models.nn.conditional_flow`
    p      = mean_k Teacher(slide, o^k)                              survival curves or probabilities, not logits

It is trained by flow matching alone, on the frozen teacher's embeddings of measured genes: towards its predictions it
is not trained, which would draw the samples together. The noise of the samples is drawn once, in pairs of opposite
sign, and stored with the weights: equal slides have equal predictions in any batch and on any machine, differences
between patients are not noise, and a path of integrated gradients has no jumps.

Completion in the space of all modalities, by diffusion: UMM-CSGM (arXiv 2207.03430). Here the space is that of the
teacher's embeddings, the missing modality is always that of the genes, and paths are straight.

Shape legend: b patients, n tokens, d width, e width of both gene embeddings, s samples, k classes or time bins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dml.config import params as config
from dml.core.types import SUBSPACES, Batch, Expression, Kind, ModelOutput
from dml.data.dims import ModelDims
from dml.models.frozen_teacher import FrozenTeacherStudent
from dml.models.nn.conditional_flow import VelocityNetwork, antithetic_noise, flow_matching_loss, integrate
from dml.models.nn.head import fuse_magnifications

SAMPLES, STEPS = 16, 20
MIN_DEVIATION = 1e-3
"""Smallest standard deviation of a component of the embeddings."""


class CompletedGenesStudent(FrozenTeacherStudent):
    """Predicts from slides alone: the mean of a frozen teacher over samples of the gene embeddings."""

    noise: Tensor
    centre: Tensor
    deviation: Tensor

    def __init__(self, dims: ModelDims, config: config.Model, teacher: config.Teacher) -> None:
        super().__init__(dims, config, teacher)
        width = len(SUBSPACES) * config.width
        self.velocity = VelocityNetwork(width, config.width, 2 * config.gene_width, config.dropout)
        self.register_buffer("noise", antithetic_noise(SAMPLES, width))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.teacher.eval()

    @torch.no_grad()
    def fit_scale(self, measured: Expression) -> None:
        """Take mean and standard deviation of the teacher's embeddings of measured genes."""
        embedded = self._embed_measured(measured)
        self.centre.copy_(embedded.mean(0))
        self.deviation.copy_(embedded.std(0, correction=0).clamp_min(MIN_DEVIATION))

    def train(self, mode: bool = True) -> "CompletedGenesStudent":
        """Set the mode; the teacher is always evaluated without dropout."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: Batch) -> ModelOutput:
        """Predict a batch; in training by one sample, with the loss of flow matching (`ModelOutput.terms`)."""
        if not self.training:
            return average_outputs(self.sample_outputs(batch), self.teacher.dims.kind)
        with torch.no_grad():
            tokens = self.project(batch)
            condition = self.slide_token(batch, tokens)
            measured = (self._embed_measured(batch.expression) - self.centre) / self.deviation
            start = torch.randn_like(self.noise[:1])
            output = self._predict(batch, tokens, self._complete(condition, start)[0])
        loss = flow_matching_loss(self.velocity, measured, condition, batch.expression.present)
        return replace(output, terms={"flow_matching": loss})

    def sample_outputs(self, batch: Batch) -> list[ModelOutput]:
        """Return the teacher's output for each sample of the gene embeddings."""
        tokens = self.project(batch)
        samples = self._complete(self.slide_token(batch, tokens), self.noise)
        return [self._predict(batch, tokens, genes) for genes in samples]

    def sample_embeddings(self, batch: Batch) -> Float[Tensor, "s b e"]:
        """Return the sampled gene embeddings, tumor before TME."""
        return self._complete(self.slide_token(batch, self.project(batch)), self.noise)

    def sample_deviation(self, batch: Batch) -> Float[Tensor, "b k"]:
        """Return the standard deviation over the samples: of survival after each bin, of probabilities, of outputs."""
        logits, kind = torch.stack([output.logits for output in self.sample_outputs(batch)]), self.teacher.dims.kind
        predictions = logits if kind == "regression" else log_predictions(logits, kind).exp()
        return predictions.std(0, correction=0)

    def embed_genes(self, batch: Batch) -> Mapping[str, Tensor]:
        """Return the mean of the samples (b d) of each subspace: contributions are computed there."""
        return self._split(self.sample_embeddings(batch).mean(0))

    def measured_embeddings(self, batch: Batch) -> Float[Tensor, "b e"]:
        """Return the teacher's embeddings of the measured genes, tumor before TME."""
        return self._embed_measured(batch.expression)

    def _complete(self, condition: Tensor, noise: Tensor) -> Float[Tensor, "s b e"]:
        return self.centre + self.deviation * integrate(self.velocity, noise, condition, STEPS)

    def _embed_measured(self, measured: Expression) -> Float[Tensor, "b e"]:
        embedded = self.teacher.embed_genes(measured)
        return torch.cat([embedded[s] for s in SUBSPACES], -1)

    def _split(self, joined: Float[Tensor, "b e"]) -> dict[str, Tensor]:
        return dict(zip(SUBSPACES, joined.chunk(len(SUBSPACES), -1), strict=True))

    def _predict(self, batch: Batch, tokens: Sequence[Tensor], joined: Float[Tensor, "b e"]) -> ModelOutput:
        teacher, genes = self.teacher, self._split(joined)
        levels = [teacher.encode(x, level, genes) for x, level in zip(tokens, batch.levels, strict=True)]
        embeddings: dict[str, list[Tensor]] = {s: [level.embeddings[s] for level in levels] for s in SUBSPACES}
        output = fuse_magnifications(teacher.head, teacher.dims.kind, batch, embeddings)
        return replace(output, attention={s: tuple(level.attention[s] for level in levels) for s in SUBSPACES})


def log_predictions(logits: Float[Tensor, "*s k"], kind: Kind) -> Float[Tensor, "*s k"]:
    """Return the logarithm of survival after each bin, or of each class probability."""
    if kind == "survival":
        return nn.functional.logsigmoid(-logits).cumsum(-1)
    return torch.log_softmax(logits, -1)


def average_logits(logits: Float[Tensor, "s b k"], kind: Kind) -> Float[Tensor, "b k"]:
    """Return the logits whose survival curve, or class probabilities, is the mean over samples.

    The parameters of a number's distribution are averaged, which averages its quantiles.

    Examples
    --------
    Survival after two bins is 0.25 and 0.01 in two samples, 0.13 in the mean:

    >>> logits = torch.tensor([[[0.0, 0.0]], [[2.1972246, 2.1972246]]])
    >>> (1 - average_logits(logits, "survival").sigmoid()).prod(-1).round(decimals=4).tolist()
    [0.12999999523162842]
    """
    if kind == "regression":
        return logits.mean(0)
    mean = torch.logsumexp(log_predictions(logits, kind), 0) - torch.tensor(float(len(logits))).log()
    if kind == "classification":
        return mean
    cumulative = torch.diff(-mean, dim=-1, prepend=torch.zeros_like(mean[:, :1]))
    return torch.log(torch.expm1(cumulative.clamp_min(1e-7)))


def average_outputs(samples: Sequence[ModelOutput], kind: Kind) -> ModelOutput:
    """Return the mean prediction; embeddings, attention and auxiliary logits are averaged as they are."""
    first = samples[0]
    return ModelOutput(
        embeddings={s: torch.stack([each[s] for each in samples]).mean(0) for s in first.embeddings},
        logits=average_logits(torch.stack([each.logits for each in samples]), kind),
        attention={
            s: tuple(torch.stack([each.attention[s][i] for each in samples]).mean(0) for i in range(len(levels)))
            for s, levels in first.attention.items()
        },
        auxiliary={name: torch.stack([each.auxiliary[name] for each in samples]).mean(0) for name in first.auxiliary},
    )
