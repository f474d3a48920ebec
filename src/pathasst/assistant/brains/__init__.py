"""The brains: our own PathAsst, any OpenAI-compatible server, a GGUF model in this process. Each is imported when chosen."""
