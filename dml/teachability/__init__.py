"""What a slide can be taught: how well it predicts genes and gene risk, and how much of the genes' gain that is worth."""
