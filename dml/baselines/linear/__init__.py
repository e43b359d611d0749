"""Classical baselines: Kaplan-Meier or class frequencies, Cox, logistic regression, late fusion with age and sex."""
