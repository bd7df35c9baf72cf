"""Everything that talks to a model. Nothing here is imported before somebody asks for it."""
