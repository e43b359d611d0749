"""Similar patients: the learning patients' tokens with their outcomes, and who is near a new patient in them."""
