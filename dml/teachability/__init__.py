"""What a slide can be taught: genes and gene risk that it predicts, and how much of the genes' gain that is."""
