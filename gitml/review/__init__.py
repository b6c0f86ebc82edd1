"""What changed between two commits: results, their causes, data and models; one comparison, several ways to show it."""
