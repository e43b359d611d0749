"""Whether the maps of a model agree with what was measured at places of the same section."""
