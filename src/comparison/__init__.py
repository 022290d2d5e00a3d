"""Runs side by side: leaderboard, paired tests, pages."""
