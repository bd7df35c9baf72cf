"""Stores: one package per back end, each an implementation of `ccn_mcp.ports.Store`."""
