"""The viewer: slides of a cohort or folder in the browser, with the maps of a model, on this machine only."""
