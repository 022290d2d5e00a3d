"""EmoNet, heads, losses, schedules, weights."""
