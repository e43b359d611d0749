"""Names of genes and units of expression: what a symbol or a number in a matrix means."""
