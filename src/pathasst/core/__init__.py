"""What every room stands on: records, errors, settings, statistics, weights, files. Knows no room."""
