"""The MCP surface. Knows the SDK; nothing below this layer does."""
