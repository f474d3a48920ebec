"""Pictures and slides: reading, tiles, stains, marks, drawing. Knows no model."""
