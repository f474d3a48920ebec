"""Classification on the public sets of pathology: zero-shot by three kinds of prompts, few-shot and linear probes, robustness."""
