"""The public Python functions, one verb a room: `import pathasst as pa`. Thin: each calls a room and gives a typed value back."""
