"""Maps of a slide: contributions and attention of its tiles, as tables, pictures, GeoJSON, AnnData and SpatialData."""
