"""The use cases, one module per noun. They know the domain and the ports, and no SDK, SQL or environment."""
