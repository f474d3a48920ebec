"""Objects in pictures: nuclei masks, cell points, counts and indices. Of any tool, from files."""
