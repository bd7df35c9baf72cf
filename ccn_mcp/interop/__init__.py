"""Other programs' ways in: Claude Code's hooks and transcripts."""
