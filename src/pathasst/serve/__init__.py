"""The server: API, page, MCP, jobs, keys and uploads around the assistant."""
