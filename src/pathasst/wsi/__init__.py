"""Any tool on a whole slide: tissue, tiles, the tool, objects in slide px, scores, report. Knows tools and slides; no agent."""
