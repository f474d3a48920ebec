"""Questions about pictures: the public sets of pathology and any JSONL, multiple choice, yes/no and open, for any brain."""
