"""The command line, one module per group of commands; the only layer that prints."""
