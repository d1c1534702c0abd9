"""Pictures, captions, splits, tokens and prompts."""
