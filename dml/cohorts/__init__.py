"""Raw tables of any origin become validated cohort stores."""
