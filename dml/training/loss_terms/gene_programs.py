"""Gene programs from the student's tokens: tumor programs from the tumor token, TME programs from the TME token.

    L = mean_s mean_p (p_s(token_s) - z_s)^2        z: programs of the patient's own genes (dml.data.gene_programs)

It carries the teacher's division of genes to the slide, without the teacher. Patients without genes are skipped.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dml.training.loss_terms.registry import LossInputs, loss_term


@loss_term("gene_programs", model="student", key="program_weight", label="gene programs", ablation_weight=1.0)
def gene_program_loss(inputs: LossInputs) -> Float[Tensor, ""] | None:
    """Return the weighted squared error of the predicted programs; nothing without programs."""
    batch, output = inputs.batch, inputs.output
    if not batch.programs or not output.programs:
        return None
    present = batch.expression.present.to(output.logits.dtype)
    errors = [(output.programs[s] - target).square().mean(-1) for s, target in batch.programs.items()]
    return (torch.stack(errors).mean(0) * present).sum() / present.sum().clamp_min(1.0)
