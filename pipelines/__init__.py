"""One thin file a DVC stage: read the section, call dml, write the outputs."""
