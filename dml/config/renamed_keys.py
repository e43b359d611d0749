"""Names that keys and values of params.yaml had before version 0.2, and their present names."""

from collections.abc import Mapping

RENAMED: Mapping[str, str] = {
    "split.tested": "split.test_population",
    "inputs.bins": "inputs.time_bins",
    "model.references": "model.n_queries",
    "model.linear": "model.linear_offset.components",
    "model.linear_tasks": "model.linear_offset.tasks",
    "optimisation.warmup": "optimisation.warmup_fraction",
    "optimisation.clip": "optimisation.grad_clip_norm",
    "optimisation.members": "optimisation.ensemble_size",
    "optimisation.cox": "optimisation.cox_loss_weight",
    "teacher.fusion": "teacher.use_fusion",
    "teacher.coordination": "teacher.use_gradient_coordination",
    "teacher.consistency": "teacher.consistency_weight",
    "teacher.consistency_reading": "teacher.consistency_target",
    "teacher.disentangling": "teacher.disentanglement_weight",
    "teacher.auxiliary": "teacher.auxiliary_weight",
    "teacher.unpaired": "teacher.use_unpaired",
    "distillation.features": "distillation.feature_weight",
    "distillation.predictions": "distillation.prediction_weight",
    "distillation.auxiliary": "distillation.auxiliary_weight",
    "distillation.student": "distillation.architecture",
    "distillation.unpaired": "distillation.use_unpaired",
    "distillation.linear": "distillation.use_linear_offset",
    "evaluation.adjust": "evaluation.adjust_for",
    "probes.hidden": "probes.missing_fractions",
    "probes.min_site": "probes.min_site_patients",
    "probes.shuffles": "probes.permutations",
    "promotion.gap": "promotion.max_teacher_gap",
    "promotion.margin": "promotion.non_inferiority_margin",
    "tuning.cost": "tuning.second_objective",
    "tuning.warmup": "tuning.n_startup_trials",
    "tuning.grace": "tuning.min_epochs_before_pruning",
    "tuning.members": "tuning.ensemble_size",
    "tuning.distil": "tuning.student",
}
"""Old dotted key to new dotted key."""
RENAMED_VALUES: Mapping[str, Mapping[str, str]] = {
    "distillation.architecture": {"tokens": "subspace_tokens", "generated_genes": "gene_imputation"},
}
"""New dotted key to old value to new value."""
